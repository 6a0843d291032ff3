"""Metrics of the hot paths: plain numbers until somebody asks.

A counter of the library's takes a lock each time it counts, and a histogram two; a callback and a
call need five each, which costs as much as checking a body. These are touched by one thread only.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BOUNDS = [*map(floatToGoString, _BOUNDS_S), "+Inf"]


class Durations:
    """A histogram, in seconds."""

    __slots__ = ("_slots", "total")

    def __init__(self) -> None:
        self._slots = [0] * len(_BOUNDS)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self._slots[bisect_left(_BOUNDS_S, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds, and how many took no longer."""
        return list(zip(_BOUNDS, map(float, accumulate(self._slots)), strict=True))


class CallbackCounts(Collector):
    """What came of callbacks."""

    def __init__(self) -> None:
        self.recorded = 0
        self.spooled = 0
        self.ignored = 0
        self.refused = 0
        self.unavailable = 0
        self.recorded_bytes = 0
        self.seconds = Durations()
        """From a callback's last byte to its answer."""

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        outcomes = CounterMetricFamily(
            "plugstatus_callbacks",
            "Callbacks answered, by outcome: recorded, spooled, ignored, refused, unavailable.",
            labels=["outcome"],
        )
        for outcome in ("recorded", "spooled", "ignored", "refused", "unavailable"):
            outcomes.add_metric([outcome], getattr(self, outcome))
        bytes_ = CounterMetricFamily(
            "plugstatus_callback_bytes", "Bytes of recorded bodies.", self.recorded_bytes
        )
        seconds = HistogramMetricFamily(
            "plugstatus_callback_seconds", "From a callback's last byte to its answer."
        )
        seconds.add_metric([], self.seconds.buckets(), self.seconds.total)
        return outcomes, bytes_, seconds


class RpcCounts:
    """The calls of one rpc."""

    __slots__ = ("handled", "seconds", "sent", "started")

    def __init__(self) -> None:
        self.started = 0
        self.handled: Counter[str] = Counter()
        """Ended, by the code's name."""
        self.sent = 0
        """Frames of a stream."""
        self.seconds = Durations()
        """From the call's headers to its end; told of unary calls."""


class CallCounts(Collector):
    """Of every rpc, under the names that dashboards know."""

    def __init__(self) -> None:
        self._rpcs: dict[tuple[str, str, str], RpcCounts] = {}

    def of(self, kind: str, service: str, method: str) -> RpcCounts:
        """`kind` is unary, server_stream or bidi_stream."""
        return self._rpcs.setdefault((kind, service, method), RpcCounts())

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        labels = ["grpc_type", "grpc_service", "grpc_method"]
        started = CounterMetricFamily("grpc_server_started", "Calls begun.", labels=labels)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls ended, by code.", labels=[*labels, "grpc_code"]
        )
        seconds = HistogramMetricFamily(
            "grpc_server_handling_seconds", "Duration of unary calls.", labels=labels
        )
        sent = CounterMetricFamily("grpc_server_msg_sent", "Stream frames sent.", labels=labels)
        for rpc, counts in self._rpcs.items():
            started.add_metric(rpc, counts.started)
            for code, count in counts.handled.items():
                handled.add_metric([*rpc, code], count)
            if rpc[0] == "unary":
                seconds.add_metric(rpc, counts.seconds.buckets(), counts.seconds.total)
            else:
                sent.add_metric(rpc, counts.sent)
        return started, handled, seconds, sent
