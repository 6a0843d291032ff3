"""plugstatus itself on the cluster: callbacks posted to two ingress processes, two APIs watched.

What is acknowledged, `recorded` or `spooled`, has to be in the log with its body, exactly once, and
every watcher has to have heard of every report, once and in order, whatever was killed meanwhile.
"""

import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from service.gen.plugchat.status.v1 import status_pb2 as pb
from service.gen.plugchat.status.v1 import status_pb2_grpc as stubs
from service.wire.cursor import CursorCodec
from tests.command import plugstatus
from tests.failover.cluster import Cluster
from tests.failover.waiting import PACE_S, until
from tests.failover.workload import Verdict
from tests.postgres import connected
from tests.server_process import ServerProcess

_POSTERS = 4
_MESSAGES = 300
_AUDIT_S = 60.0
_REPLY_S = 40.0


class Service:
    """Processes by role, and clients of them."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._url = cluster.url()
        self._folder = folder
        self._ending = threading.Event()
        self._changed = threading.Condition()
        self._acknowledged: list[bytes] = []
        self._in_doubt = 0
        self._last_begun_s = 0.0
        """When the latest of what was recorded, and not only spooled, began."""
        self._heard: list[list[str]] = [[], []]
        """Cursors of every report, for each watcher, as they came."""
        self._running = ExitStack()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        migrated = plugstatus("migrate", EVENTS_URL=self._url, DATA_DIR=str(self._folder / "m"))
        assert migrated.returncode == 0, migrated.stderr
        roles = ["projector", "projector", "ingress", "ingress", "api", "api"]
        started = [self._started(role, number) for number, role in enumerate(roles)]
        self._threads = [
            threading.Thread(target=self._watch, args=(api.grpc, heard))
            for api, heard in zip(started[4:], self._heard, strict=True)
        ]
        targets = itertools.islice(itertools.cycle(started[2:4]), _POSTERS)
        self._threads += [
            threading.Thread(target=self._post, args=(number, one.http))
            for number, one in enumerate(targets)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ending.set()
        # The processes first: a stream ends with its server.
        self._running.close()
        for thread in self._threads:
            thread.join()

    def await_acknowledged(self, more: int, deadline_s: float) -> None:
        with self._changed:
            enough = len(self._acknowledged) + more
            if not self._changed.wait_for(lambda: len(self._acknowledged) >= enough, deadline_s):
                raise TimeoutError(f"{more} callbacks were not acknowledged in {deadline_s:g} s")

    def went_on(self, since_s: float, deadline_s: float) -> float:
        with self._changed:
            if not self._changed.wait_for(lambda: self._last_begun_s > since_s, deadline_s):
                raise TimeoutError(f"nothing was recorded in {deadline_s:g} s")
            return time.monotonic()

    def verdict(self) -> Verdict:
        with self._changed:
            acknowledged, in_doubt = list(self._acknowledged), self._in_doubt
        lost: list[str] = []

        def settled() -> bool:
            lost[:] = self._missing(acknowledged)
            return not lost

        try:
            until(settled, _AUDIT_S, "what was acknowledged is told")
        except TimeoutError:
            return Verdict(len(acknowledged), lost, in_doubt)
        return Verdict(len(acknowledged), [], in_doubt)

    def _missing(self, acknowledged: list[bytes]) -> list[str]:
        """What is wrong now; some of it may only be late."""
        with connected(self._url) as connection:
            contents = connection.execute("SELECT content FROM plugstatus_events.events").fetchall()
            identity = connection.execute("SELECT identity FROM plugstatus_events.log").fetchall()
            feed = connection.execute(
                "SELECT position, report_index FROM plugstatus_views.feed_a ORDER BY 1, 2"
            ).fetchall()
        recorded = Counter(bytes(row[0]) for row in contents)
        found = [
            f"{body.decode()} is recorded {recorded[body]} times"
            for body in acknowledged
            if recorded[body] != 1
        ]
        cursors = CursorCodec(identity[0][0])
        for number, heard in enumerate(self._heard):
            places = [cursors.decode(one).place for one in list(heard)]
            told = [(place.position, place.index) for place in places]
            # It is live: what it has heard by now is a beginning of what there is, or all of it.
            if told[: len(feed)] != feed[: len(told)]:
                found.append(f"watcher {number} heard otherwise than the feed says")
            elif len(told) < len(feed):
                found.append(f"watcher {number} has heard {len(told)} of {len(feed)}")
        return found

    def _started(self, role: str, number: int) -> ServerProcess:
        settings = {"EVENTS_URL": self._url, "ROLES": role, "OPS_BIND": "127.0.0.1:0"}
        process = ServerProcess(self._folder / f"{role}-{number}", settings)
        return self._running.enter_context(process)

    def _post(self, number: int, url: str) -> None:
        dice = random.Random(number)
        address = url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=_REPLY_S)
        for count in itertools.count():
            if self._ending.wait(PACE_S / 10):
                break
            body = json.dumps(
                {
                    "type": "MessageStatusCallback",
                    "status": dice.choice(["SENT", "RECEIVED", "READ"]),
                    "ids": [f"M{dice.randrange(_MESSAGES)}"],
                    "phone": "5544999999999",
                    "note": f"{number}-{count}",
                }
            ).encode()
            self._post_one(connection, body)
        connection.close()

    def _post_one(self, connection: http.client.HTTPConnection, body: bytes) -> None:
        begun_s = time.monotonic()
        try:
            connection.request(
                "POST", "/instancia/acme/status", body, {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            said = answer.read()
        except OSError:
            connection.close()
            with self._changed:
                self._in_doubt += 1
            return
        with self._changed:
            if answer.status != http.client.OK:
                self._in_doubt += 1
                return
            self._acknowledged.append(body)
            if b'"recorded"' in said:
                self._last_begun_s = max(self._last_begun_s, begun_s)
            self._changed.notify_all()

    def _watch(self, target: str, heard: list[str]) -> None:
        """Everything from the beginning, on one stream after the other."""
        request = pb.WatchStatusesRequest(include_unchanged=True)
        request.from_time.seconds = 1
        with grpc.insecure_channel(target) as channel:
            service: Any = stubs.MessageStatusServiceStub(channel)
            while not self._ending.wait(PACE_S):
                try:
                    for response in service.WatchStatuses(request):
                        heard += [change.cursor for change in response.changes.changes]
                        request.cursor = response.cursor
                except grpc.RpcError as error:
                    told: Any = error
                    if told.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
