"""What the server tells of itself to tools that have no proto file: what is served, and no more."""

from collections.abc import Callable, Iterable
from typing import Any

from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

_V1ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
SERVICES = (f"{_V1}.ServerReflection", f"{_V1ALPHA}.ServerReflection")
"""Its own names. The package knows the second; newer tools ask for the first, which is the same."""

METHOD = "ServerReflectionInfo"


def conversation(services: Iterable[ServiceDescriptor]) -> Callable[[Any, Any], Any]:
    """Answers about these services, about reflection itself, and about what errors carry."""
    described = tuple(services)
    pool = DescriptorPool()
    held: set[str] = set()
    for file in (
        *(service.file for service in described),
        error_details_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    ):
        _add(pool, file, held)
    pool.AddSerializedFile(_v1().SerializeToString())
    names = (*(service.full_name for service in described), *SERVICES)
    answers: Callable[[Any, Any], Any] = ReflectionServicer(names, pool).ServerReflectionInfo
    return answers


def _add(pool: DescriptorPool, file: FileDescriptor, held: set[str]) -> None:
    """With what it imports, which comes first."""
    if file.name in held:
        return
    held.add(file.name)
    for imported in file.dependencies:
        _add(pool, imported, held)
    pool.AddSerializedFile(file.serialized_pb)


def _v1() -> FileDescriptorProto:
    """The file of v1alpha under the names of v1."""
    file = FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = _V1
    for message in file.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = _renamed(field.type_name)
    for service in file.service:
        for method in service.method:
            method.input_type = _renamed(method.input_type)
            method.output_type = _renamed(method.output_type)
    return file


def _renamed(type_name: str) -> str:
    return type_name.replace(f".{_V1ALPHA}.", f".{_V1}.")
