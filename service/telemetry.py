"""What the service tells about itself: one structured log line a record, and metrics.

Log lines go to standard error as JSON, or as plain text on a terminal. Ids and phones appear
only at level debug; query strings, tokens and bodies never.
"""

import logging
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from service.counting import CallbackCounts, CallCounts


def configure_logging(
    level: str = "info", stream: TextIO | None = None, worker: int | None = None
) -> None:
    """Route the service's and its libraries' records to one handler; each names the worker."""
    out = stream or sys.stderr

    def named(_logger: Any, _method: str, record: Any) -> Any:
        return record if worker is None else {**record, "worker": worker}

    shared: list[Any] = [
        named,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if out.isatty() else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Libraries that log addresses with their query at info.
    for name in ("httpx", "httpcore", "alembic", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Metrics:
    """The process's metrics, on a registry of its own. No ids and no phones in labels."""

    def __init__(self, *, http: bool = True, stores: bool = True) -> None:
        """On the page are those of the HTTP side, and all others; the rest is counted for nobody,
        because another process tells of it."""
        # A time of creation beside every counter doubles the page, and nothing of ours reads it.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        hidden = CollectorRegistry()
        self._add_ingress(self.registry if http else hidden)
        for add in (self._add_log, self._add_views, self._add_api):
            add(self.registry if stores else hidden)

    def page(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)

    def _add_ingress(self, registry: CollectorRegistry) -> None:
        self.callbacks = CallbackCounts()
        registry.register(self.callbacks)
        self.http_connections = Gauge(
            "plugstatus_http_connections", "Open HTTP connections.", registry=registry
        )
        self.http_cut_off = Counter(
            "plugstatus_http_cut_off_total",
            "Requests the server itself answered before a route could, by status code.",
            ["code"],
            registry=registry,
        )

    def _add_log(self, registry: CollectorRegistry) -> None:
        self.certificate_expiry = Gauge(
            "plugstatus_certificate_expiry_timestamp_seconds",
            "When the certificate in use expires, in seconds since 1970, by side: http, grpc.",
            ["side"],
            registry=registry,
        )
        self.log_position = Gauge(
            "plugstatus_log_position",
            "Last position this process recorded; 0 before the first.",
            registry=registry,
        )
        self.damaged_events = Gauge(
            "plugstatus_damaged_events",
            "Events of a SQLite log that are not what was recorded, as last found.",
            registry=registry,
        )
        self.log_unreadable = Gauge(
            "plugstatus_log_unreadable",
            "1 if the whole event log could not be read when that was last tried, else 0.",
            registry=registry,
        )
        self.scrubbed_at = Gauge(
            "plugstatus_log_read_timestamp_seconds",
            "When the whole SQLite log was last read through, in seconds since 1970; 0: not yet.",
            registry=registry,
        )
        self.spool_callbacks = Gauge(
            "plugstatus_spool_callbacks",
            "Callbacks on this machine's disk that the log does not have yet.",
            registry=registry,
        )
        self.spool_bytes = Gauge("plugstatus_spool_bytes", "Their bytes.", registry=registry)
        self.spool_seconds = Gauge(
            "plugstatus_spool_seconds",
            "Age of the oldest of them; 0 when there is none.",
            registry=registry,
        )

    def _add_views(self, registry: CollectorRegistry) -> None:
        self.leading = Gauge(
            "plugstatus_leading",
            "1 if this process projects, 0 if it stands by.",
            registry=registry,
        )
        self.views_position = Gauge(
            "plugstatus_views_position", "Position the views stand at.", registry=registry
        )
        self.unprojected_seconds = Gauge(
            "plugstatus_unprojected_seconds",
            "Age of the oldest event the views have not folded in; 0 when there is none.",
            registry=registry,
        )
        self.reports_folded = Counter(
            "plugstatus_reports_folded_total", "Reports folded into the views.", registry=registry
        )
        self.silent_instances = Gauge(
            "plugstatus_silent_instances",
            "Instances that used to talk and were not heard of for too long.",
            registry=registry,
        )
        self.stuck_messages = Gauge(
            "plugstatus_stuck_messages",
            "Messages that were sent too long ago and not heard of again.",
            registry=registry,
        )
        self.unconfirmed_webhooks = Gauge(
            "plugstatus_unconfirmed_webhooks",
            "Webhook updates that PlugChat accepted and behind which no callback came.",
            registry=registry,
        )
        self.quarantined = Counter(
            "plugstatus_quarantined_total",
            "Callbacks put in quarantine, by reason.",
            ["reason"],
            registry=registry,
        )
        self.projector_failures = Counter(
            "plugstatus_projector_failures_total",
            "Batches that failed and were tried again.",
            registry=registry,
        )

    def _add_api(self, registry: CollectorRegistry) -> None:
        self.watchers = Gauge("plugstatus_watchers", "Open watch streams.", registry=registry)
        self.watchers_behind = Counter(
            "plugstatus_watchers_behind_total",
            "Times a live watcher fell behind.",
            registry=registry,
        )
        self.waits = Gauge("plugstatus_waits", "WaitForStatus calls under way.", registry=registry)
        self.webhook_updates = Counter(
            "plugstatus_webhook_updates_total",
            "Webhook updates by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.calls = CallCounts()
        registry.register(self.calls)


class ParentMetrics:
    """Of the process that runs several workers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.workers = Gauge(
            "plugstatus_workers", "Workers that are ready.", registry=self.registry
        )
        self.restarts = Counter(
            "plugstatus_worker_restarts_total",
            "Workers that ended by themselves and were started again.",
            registry=self.registry,
        )


class WorkerMetrics(Collector):
    """The pages of several workers as one: each sample says which worker's it is."""

    def __init__(self, pages: Mapping[int, str]) -> None:
        self._pages = pages

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for worker, page in self._pages.items():
            for family in text_string_to_metric_families(page):
                one = merged.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for name, labels, value, *_ in family.samples:
                    one.add_sample(name, {**labels, "worker": str(worker)}, value)
        return merged.values()
