"""Spans of OpenTelemetry: where the time of a question or a document goes, through every process that has a part in it.

Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set: then nothing of it is imported here, and a span costs a comparison. Spans
say what was done, to what and how it ended, in the words of OpenTelemetry's conventions; never what anybody wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, Literal

Kind = Literal["INTERNAL", "SERVER", "CLIENT", "CONSUMER", "PRODUCER"]


class _Nothing:
    """Stands for the span where there is none."""

    def set_attribute(self, _name: str, _value: object) -> None:
        pass

    def update_name(self, _name: str) -> None:
        pass


NOTHING = _Nothing()
_OFF = nullcontext(NOTHING)
_provider: Any = None
_tracer: Any = None


def begin(*, service: str, version: str, share: float) -> None:
    """Trace from now on. share: of questions and tasks, 0 to 1; all spans of one are kept or none."""
    global _provider, _tracer
    # Most processes do not trace.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    from apps.edge.sampling import sampler  # noqa: PLC0415

    resource = Resource.create({"service.name": service, "service.version": version})
    provider = TracerProvider(resource=resource, sampler=sampler(share))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _provider, _tracer = provider, provider.get_tracer("parley", version)
    _watch_redis(provider)


def _watch_redis(provider: Any) -> None:
    from opentelemetry import trace  # noqa: PLC0415

    redis: Any = import_module("opentelemetry.instrumentation.redis")
    redis.RedisInstrumentor().instrument(tracer_provider=provider)  # it writes a question mark for each argument
    enabled = redis.is_instrumentation_enabled

    def is_kept() -> bool:
        return trace.get_current_span().is_recording() and enabled()

    # It would describe each command to a sampler that drops it.
    redis.is_instrumentation_enabled = is_kept


def span(
    name: str, kind: Kind = "INTERNAL", *, of: Mapping[str, str] | None = None, **attributes: object
) -> AbstractContextManager[Any]:
    """A span of what is done inside. of: headers() of the process that asked for it. Attributes are named with two
    underscores for a dot, and left out where they are None."""
    return _OFF if _tracer is None else _span(name, kind, of, attributes)


@contextmanager
def _span(name: str, kind: Kind, of: Mapping[str, str] | None, attributes: Mapping[str, object]) -> Iterator[Any]:
    from opentelemetry import propagate, trace  # noqa: PLC0415
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

    above = trace.get_current_span()
    if not of and above.get_span_context().is_valid and not above.is_recording():
        yield above  # of a trace that is not kept: its parts need no spans of their own
        return
    named: Any = {key.replace("__", "."): value for key, value in attributes.items() if value is not None}
    # Left to itself it would keep the sentences of exceptions, which may quote.
    with _tracer.start_as_current_span(
        name,
        context=propagate.extract(of) if of else None,
        kind=trace.SpanKind[kind],
        attributes=named,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException:
            error = sys.exc_info()[1]
            current.set_attribute("error.type", getattr(error, "code", "") or type(error).__name__)
            current.set_status(Status(StatusCode.ERROR))
            raise


def headers() -> dict[str, str]:
    """What tells another process which span this is: `traceparent`. Nothing where nothing is traced."""
    if _tracer is None:
        return {}
    from opentelemetry import propagate  # noqa: PLC0415

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def flush() -> None:
    """Send what is waiting: a process that ends by os._exit() says no word."""
    if _provider is not None:
        _provider.force_flush()
