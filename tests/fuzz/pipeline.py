"""The way of a body from the ingress's check to what is listed, with a judgement of each."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from service import config
from service.api.access import LOCAL
from service.api.calls import Call
from service.api.listings import Listings
from service.clock import SystemClock
from service.core import Core
from service.domain.events import EventKind, NewEvent, Position
from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.ingress import body
from service.ingress.problems import Refused
from service.plugchat import words
from service.telemetry import Metrics
from service.wire.page_token import PageTokens
from tests.call_context import CallContext

_CALL = Call(LOCAL, CallContext())
_SILENT = {"CONNECTEDCALLBACK", "DISCONNECTEDCALLBACK"}
"""Known types that make no report."""

_IGNORED = {"RECEIVEDCALLBACK", "PRESENCECHATCALLBACK"}
_DEADLINE_S = 60.0
_FOREIGN_NUMBER = re.compile(r"\b(?:NaN|Infinity)\b")


class Input(NamedTuple):
    content: bytes
    neighbour: str
    """The id of a plain callback that has to come through; empty for what is made up."""


class Pipeline:
    """A core with its lists. Everything is of one loop."""

    def __init__(self, core: Core, settings: config.Config) -> None:
        self._core = core
        self._limits = settings.limits
        self._lists = Listings(
            core.views, core.log, core.cursors, PageTokens(core.identity), settings.limits
        )
        self.counts: Counter[str] = Counter()

    async def judge(self, instance: str, inputs: Sequence[Input]) -> list[str]:
        """Record all of them, and look at what is listed; what is wrong."""
        faults: list[str] = []
        taken: list[Input] = []
        appended: list[asyncio.Future[Position]] = []
        for one in inputs:
            self.counts["inputs"] += 1
            type_ = self._checked(one, faults)
            if type_ is _REFUSED:
                self.counts["refused"] += 1
            elif type_ is not None and words.normalized(str(type_)) in _IGNORED:
                self.counts["ignored"] += 1
            else:
                event = NewEvent(instance, SystemClock().now_us(), EventKind.CALLBACK, one.content)
                appended.append(self._core.appender.append(event))
                taken.append(one)
        recorded = dict(zip(await asyncio.gather(*appended), taken, strict=True))
        if recorded:
            await self._core.hub.reached(max(recorded), _DEADLINE_S)
            faults += await self._compare(instance, recorded)
        return faults

    def _checked(self, one: Input, faults: list[str]) -> object:
        """What the ingress makes of it: a type, None, or that it is refused."""
        try:
            return body.type_of(one.content, self._limits.body_depth_max)
        except Refused:
            if _is_an_object(one.content):
                faults.append(f"a JSON object was refused: {one.content[:300]!r}")
            return _REFUSED

    async def _compare(self, instance: str, recorded: dict[Position, Input]) -> list[str]:
        """Every body is listed with its very bytes, as a report or in quarantine."""
        listed = await self._reports(instance)
        apart = await self._quarantined(instance)
        faults = []
        for position, one in recorded.items():
            raws = listed.get(position, set()) | {raw for _, raw in apart.get(position, [])}
            if raws - {one.content}:
                faults.append(f"other bytes came back at {position}: {one.content[:300]!r}")
            elif position in apart and position in listed:
                faults.append(f"listed and in quarantine: {one.content[:300]!r}")
            elif position in apart:
                self.counts[pb.QuarantineReason.Name(apart[position][0][0])] += 1
                if one.neighbour:
                    faults.append(f"a neighbour went to quarantine: {one.neighbour}")
            elif position in listed:
                self.counts["reported"] += 1
            elif words.normalized(str(_type(one.content))) in _SILENT:
                self.counts["silent"] += 1
            else:
                faults.append(f"nowhere: {one.content[:300]!r}")
        return faults

    async def _reports(self, instance: str) -> dict[Position, set[bytes]]:
        found: dict[Position, set[bytes]] = {}
        messages = pb.ListMessageStatusesRequest(instance=instance, page_size=1_000)
        async for page in _pages(self._lists.messages, messages):
            for message in page.messages:
                request = pb.ListStatusReportsRequest(
                    instance=instance, message_id=message.message_id, page_size=1_000
                )
                async for reports in _pages(self._lists.reports, request):
                    for report in reports.reports:
                        at = self._core.cursors.decode(report.cursor).place.position
                        found.setdefault(at, set()).add(report.raw)
        return found

    async def _quarantined(self, instance: str) -> dict[Position, list[tuple[Any, bytes]]]:
        found: dict[Position, list[tuple[Any, bytes]]] = {}
        request = pb.ListQuarantinedCallbacksRequest(instance=instance, page_size=1_000)
        async for page in _pages(self._lists.quarantined, request):
            for one in page.callbacks:
                at = self._core.cursors.decode(one.cursor).place.position
                found.setdefault(at, []).append((one.reason, one.raw))
        return found


_REFUSED = object()


async def _pages(method: Any, request: Any) -> AsyncIterator[Any]:
    while True:
        response = await method(request, _CALL)
        yield response
        if not response.next_page_token:
            return
        request.page_token = response.next_page_token


def _type(content: bytes) -> object:
    # Numbers stay texts: the library refuses to convert long ones.
    return json.loads(content, parse_int=str, parse_float=str).get("type")


def _is_an_object(content: bytes) -> bool:
    """By the standard library, which takes NaN and Infinity, and no depth."""
    try:
        text = content.decode()
        parsed = json.loads(text, parse_int=str, parse_float=str)
        return isinstance(parsed, dict) and not _FOREIGN_NUMBER.search(text)
    except (ValueError, RecursionError):
        return False


@asynccontextmanager
async def pipeline(folder: Path) -> AsyncIterator[Pipeline]:
    settings = config.load({"DATA_DIR": str(folder)})
    async with asyncio.timeout(3_600), Core(settings, SystemClock(), Metrics()) as core:
        yield Pipeline(core, settings)
