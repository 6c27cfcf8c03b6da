"""Tracing with OpenTelemetry. When tracing is off, OpenTelemetry is not imported."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, Literal

logger = logging.getLogger("ray.serve")

SERVICE = "rerank-serve"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
FLUSH_S = 2.0

Kind = Literal["internal", "server", "client"]
# Trace context passed between processes: W3C headers.
Carrier = Mapping[str, str]

# Replaces a span when tracing is off.
NO_SPAN: AbstractContextManager[Any] = nullcontext()


class _State:
    """This process's tracer and exporter, once started."""

    tracer: Any = None
    provider: Any = None


_state = _State()


def installed() -> bool:
    """Whether the `otel` extra is installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def should_start(setting: bool | None, environ: Mapping[str, str]) -> bool:
    """The setting or, if it is None, whether the environment names a collector."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(map(environ.get, ENDPOINTS)) if setting is None else setting


def start_if_enabled(setting: bool | None) -> None:
    """Start tracing in this process if it is enabled; log a warning if that is not possible."""
    if not should_start(setting, os.environ):
        return
    if not installed():
        logger.warning("tracing disabled: it requires pip install 'rerank-serve[otel]'")
        return
    if any(os.environ.get(name, "").startswith("grpc") for name in PROTOCOLS):
        logger.warning(
            "tracing disabled: gRPC is not supported, set %s=http/protobuf", PROTOCOLS[-1]
        )
        return
    start()


def start() -> None:
    """Start tracing in this process, configured by OTEL_… variables; does nothing if started."""
    if _state.tracer is not None or not installed():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # A service name from the environment takes precedence.
    resource = Resource.create({SERVICE_NAME: SERVICE}).merge(OTELResourceDetector().detect())
    # `flush` sends the last spans; the provider's own exit hook would delay the exit.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _log_through_serve()
    _state.provider = provider
    _state.tracer = provider.get_tracer(SERVICE)


def _log_through_serve() -> None:
    """Log the exporter's messages, such as an unreachable collector, in the service's format."""
    otel_logger = logging.getLogger("opentelemetry")
    otel_logger.handlers = list(logger.handlers)
    otel_logger.propagate = False


def flush() -> None:
    """Send pending spans before the process exits; takes at most FLUSH_S seconds."""
    if _state.provider is None:
        return
    # force_flush retries an unresponsive collector without a time limit.
    sending = threading.Thread(target=_state.provider.force_flush, daemon=True)
    sending.start()
    sending.join(FLUSH_S)


def enabled() -> bool:
    return _state.tracer is not None


def span(
    name: str, kind: Kind = "internal", parent: Carrier | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """Trace a block as a child of `parent`, or of the current span; yields None if tracing is off.

    Attribute names get the prefix `rerank.`.
    """
    if _state.tracer is None:
        return NO_SPAN
    return _span(name, kind, parent, attributes)


@contextmanager
def _span(
    name: str, kind: Kind, parent: Carrier | None, attributes: Mapping[str, Any]
) -> Iterator[Any]:
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    context = None if parent is None else extract(parent)
    with _state.tracer.start_as_current_span(
        name,
        context=context,
        kind=SpanKind[kind.upper()],
        attributes=_prefixed(attributes),
        # Exception messages may contain text sent by the client.
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            mark_failed(current)
            raise


def _prefixed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {f"rerank.{name}": value for name, value in attributes.items()}


def mark_failed(current: Any) -> None:
    """Set the status of a span to error."""
    from opentelemetry.trace import StatusCode

    current.set_status(StatusCode.ERROR)


def record_span(
    name: str, seconds: float, parent: Carrier | None = None, **attributes: Any
) -> None:
    """Record a span that started `seconds` ago and ends now."""
    if _state.tracer is not None:
        now = time.time_ns()
        record_span_at(name, now - round(seconds * 1e9), now, parent, **attributes)


def record_span_at(
    name: str, start_ns: int, end_ns: int, parent: Carrier | None = None, **attributes: Any
) -> None:
    """Record a finished span; times in nanoseconds since 1970."""
    if _state.tracer is None:
        return
    from opentelemetry.propagate import extract

    context = None if parent is None else extract(parent)
    recorded = _state.tracer.start_span(
        name, context, attributes=_prefixed(attributes), start_time=start_ns
    )
    recorded.end(end_ns)


def trace_kwargs() -> dict[str, Carrier]:
    """The keyword argument that passes the trace to a replica; empty if nothing is traced."""
    if _state.tracer is None:
        return {}
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return {"trace": carrier} if carrier else {}


def trace_id() -> str | None:
    """The ID of the current trace in hexadecimal, for logs."""
    if _state.tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None
