"""Bodies that no store could hold as text: kept byte for byte, and no harm to their neighbours."""

import httpx
import pytest

from service.gen.plugchat.status.v1 import status_pb2 as pb
from tests.calls import Api, callback, fresh_id, post

STATUS = b'"type":"MessageStatusCallback","status":"READ"'
DEEP = b"[" * 999 + b"]" * 999

READABLE = {
    "NUL in every text": b'{%b,"ids":["ID"],"phone":"55\\u000044","participant":"\\u0000p",'
    b'"momment":"\\u0000","error":"\\u0000","\\u0000":"\\u0000"}' % STATUS,
    "lone surrogates in every text": b'{%b,"ids":["\\ud800","ID"],"phone":"55\\udfff",'
    b'"participant":"\\ud800p","error":["\\udc00"],"\\ud83d":"\\ude00"}' % STATUS,
    "nested 1,000 deep": b'{%b,"id":"ID","error":%b}' % (STATUS, DEEP),
    "nested 1,000 deep, with a lone surrogate": b'{%b,"id":"ID","x":%b,"y":"\\ud800"}'
    % (STATUS, DEEP),
    "numbers of 5,000 digits": b'{%b,"ids":[%b,"ID"],"momment":%b,"phone":%b,"errorCode":-%b}'
    % (STATUS, b"9" * 5_000, b"9" * 5_000, b"9" * 5_000, b"9" * 5_000),
    "exponents": b'{%b,"ids":[1e999999999,"ID"],"momment":1e999999999,"isGroup":-1E-999999999}'
    % STATUS,
    "names more than once": b'{"type":"ReceivedCallback",%b,"ids":["other"],"ids":["ID"]}' % STATUS,
    "members of other shapes": b'{%b,"ids":["ID"],"phone":[{}],"participant":{"a":[]},"momment":[],'
    b'"isGroup":"x","error":{"a":{}},"errorCode":[[]],"instanceId":false}' % STATUS,
    "blanks": b' \t\r\n{ %b , "ids" : [ "ID" ] } \n' % STATUS,
    "nearly a mebibyte": b'{%b,"ids":["ID"],"error":"%b"}' % (STATUS, b"\\ud800" * 174_000),
}
UNREADABLE = {
    "nothing": b"{}",
    "a type of NUL": b'{"type":"\\u0000","ids":["ID"]}',
    "a type that is a lone surrogate": b'{"type":"\\ud800"}',
    "no id that can be kept": b'{%b,"ids":["\\u0000","\\udfff",1e5,[],""]}' % STATUS,
    "a status that is a number": b'{"type":"MessageStatusCallback","status":%b}' % (b"1" * 9_000),
}


@pytest.mark.parametrize("body", READABLE.values(), ids=READABLE)
async def test_a_hostile_body_is_heard_and_kept(
    http: httpx.AsyncClient, api: Api, body: bytes
) -> None:
    """The message is READ, its body comes back byte for byte, and both neighbours are heard."""
    instance, message_id, before, after = fresh_id(), fresh_id(), fresh_id(), fresh_id()
    raw = body.replace(b'"ID"', b'"%b"' % message_id.encode())
    await post(http, callback(before), instance)
    await post(http, raw, instance)
    end = await post(http, callback(after), instance)
    message = await api.get(message_id, instance=instance, min_cursor=end)
    (report,) = (
        await api.status.ListStatusReports(
            pb.ListStatusReportsRequest(message_id=message_id, instance=instance)
        )
    ).reports
    known = await api.status.ListMessageStatuses(pb.ListMessageStatusesRequest(instance=instance))

    assert message.status == pb.STATUS_READ
    assert report.raw == raw
    assert {before, message_id, after} <= {one.message_id for one in known.messages}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_a_hostile_body_in_quarantine_is_kept(
    http: httpx.AsyncClient, api: Api, body: bytes
) -> None:
    """What makes no report is listed byte for byte, and both neighbours are heard."""
    instance, before, after = fresh_id(), fresh_id(), fresh_id()
    await post(http, callback(before), instance)
    await post(http, body, instance)
    await api.get(after, min_cursor=await post(http, callback(after), instance))
    (kept,) = (
        await api.admin.ListQuarantinedCallbacks(
            pb.ListQuarantinedCallbacksRequest(instance=instance)
        )
    ).callbacks
    known = await api.status.ListMessageStatuses(pb.ListMessageStatusesRequest(instance=instance))

    assert kept.raw == body
    assert kept.reason != pb.QUARANTINE_REASON_UNREADABLE
    assert [one.message_id for one in known.messages] == [after, before]
