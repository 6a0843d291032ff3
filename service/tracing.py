"""Spans for unary calls and for the PUT to PlugChat: OpenTelemetry, if it is switched on.

It is an extra (`pip install 'plugstatus[otel]'`) and off by default. Where spans go, and how they
are sampled, the standard variables say (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, …:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/). A caller's
`traceparent` (https://www.w3.org/TR/trace-context/) is the parent. PlugChat is told nothing of it.

A span holds names, codes and times: no id, no phone, no address, no text of an error.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from service import __version__, errors
from service.config import PREFIX, Config

_FLUSH_MS = 1_000
"""What the last spans get in a drain."""

_PARENT = ("traceparent", "tracestate")


class Span(Protocol):
    """What is told of a piece of work while it is done."""

    def tell(self, **attributes: str | int) -> None:
        """Names with `_` for `.`, and `__` for `_`."""
        ...

    def failed(self) -> None: ...


class _Untold:
    def tell(self, **attributes: str | int) -> None:
        pass

    def failed(self) -> None:
        pass


_UNTOLD = _Untold()


class Tracing:
    """Switched off."""

    on = False

    @contextmanager
    def serving(self, name: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[Span]:
        """A call that is served; its parent is what the metadata says."""
        yield _UNTOLD

    @contextmanager
    def calling(self, name: str) -> Iterator[Span]:
        """A call that is made; its parent is what is being done."""
        yield _UNTOLD

    def close(self) -> None:
        """Send what was not sent yet. Blocks for a second at most."""


def tracing(config: Config) -> Tracing:
    """Raises ConfigInvalid if it is switched on and not installed."""
    if not config.tracing:
        return Tracing()
    try:
        return _Switched()
    except ImportError:
        raise errors.ConfigInvalid(
            PREFIX + "TRACING",
            "needs OpenTelemetry: pip install 'plugstatus[otel]', or leave it off",
        ) from None


class _Told:
    def __init__(self, span: Any) -> None:
        self._span = span

    def tell(self, **attributes: str | int) -> None:
        self._span.set_attributes(
            {
                name.replace("__", "\0").replace("_", ".").replace("\0", "_"): value
                for name, value in attributes.items()
            }
        )

    def failed(self) -> None:
        from opentelemetry.trace import StatusCode

        self._span.set_status(StatusCode.ERROR)


class _Switched(Tracing):
    on = True

    def __init__(self) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # The environment's own names for the service count before these.
        resource = Resource({SERVICE_NAME: "plugstatus", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=resource.merge(Resource.create()))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("plugstatus", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def serving(self, name: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[Span]:
        from opentelemetry.trace import SpanKind

        carrier = {key: str(value) for key, value in metadata if key in _PARENT}
        with self._span(name, SpanKind.SERVER, self._propagator.extract(carrier)) as span:
            yield span

    @contextmanager
    def calling(self, name: str) -> Iterator[Span]:
        from opentelemetry.trace import SpanKind

        with self._span(name, SpanKind.CLIENT, None) as span:
            try:
                yield span
            except BaseException:
                span.failed()
                raise

    def close(self) -> None:
        self._provider.force_flush(_FLUSH_MS)
        self._provider.shutdown()

    @contextmanager
    def _span(self, name: str, kind: Any, parent: Any) -> Iterator[Span]:
        # What is raised is not recorded: its text may hold ids.
        with self._tracer.start_as_current_span(
            name, parent, kind, record_exception=False, set_status_on_exception=False
        ) as span:
            yield _Told(span)
