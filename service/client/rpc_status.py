"""google.rpc.Status and the details of it that clients read.

The message classes are built here, in a descriptor pool of their own: the client neither needs
googleapis-common-protos nor minds which version of it a caller has loaded. On the wire they are
the same: https://google.aip.dev/193.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "google.rpc"
_INT32 = FieldDescriptorProto.TYPE_INT32
_STRING = FieldDescriptorProto.TYPE_STRING
_BYTES = FieldDescriptorProto.TYPE_BYTES


def _one(number: int, name: str, kind: FieldDescriptorProto.Type.ValueType) -> FieldDescriptorProto:
    label = FieldDescriptorProto.LABEL_OPTIONAL
    return FieldDescriptorProto(number=number, name=name, type=kind, label=label)


def _many(number: int, name: str, message: str) -> FieldDescriptorProto:
    return FieldDescriptorProto(
        number=number,
        name=name,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.{message}",
        label=FieldDescriptorProto.LABEL_REPEATED,
    )


_PAIR = DescriptorProto(
    name="MetadataEntry", field=[_one(1, "key", _STRING), _one(2, "value", _STRING)]
)
_PAIR.options.map_entry = True

_FILE = FileDescriptorProto(
    name="google/rpc/status_and_details.proto",
    package=_PACKAGE,
    syntax="proto3",
    message_type=[
        DescriptorProto(name="Any", field=[_one(1, "type_url", _STRING), _one(2, "value", _BYTES)]),
        DescriptorProto(
            name="Status",
            field=[
                _one(1, "code", _INT32),
                _one(2, "message", _STRING),
                _many(3, "details", "Any"),
            ],
        ),
        DescriptorProto(
            name="ErrorInfo",
            field=[
                _one(1, "reason", _STRING),
                _one(2, "domain", _STRING),
                _many(3, "metadata", "ErrorInfo.MetadataEntry"),
            ],
            nested_type=[_PAIR],
        ),
        DescriptorProto(
            name="FieldViolation",
            field=[_one(1, "field", _STRING), _one(2, "description", _STRING)],
        ),
        DescriptorProto(name="BadRequest", field=[_many(1, "field_violations", "FieldViolation")]),
    ],
)
_POOL = DescriptorPool()
_POOL.Add(_FILE)


def _class(name: str) -> Any:
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


Status = _class("Status")
ErrorInfo = _class("ErrorInfo")
BadRequest = _class("BadRequest")


def detail(status: Any, kind: Any) -> Any:
    """The first detail of that kind; an empty one if there is none."""
    for packed in status.details:
        if packed.type_url.rpartition("/")[2] == kind.DESCRIPTOR.full_name:
            return kind.FromString(packed.value)
    return kind()
