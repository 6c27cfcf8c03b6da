"""Spans by OpenTelemetry, where they are asked for. Else nothing is imported and nothing done."""

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
# Where a span belongs, as it goes from process to process: W3C's headers.
Carrier = Mapping[str, str]


# The span of what is not traced.
NONE: AbstractContextManager[Any] = nullcontext()


class _State:
    """The process's tracer and exporter, once they are started."""

    tracer: Any = None
    provider: Any = None


_state = _State()


def installed() -> bool:
    """Whether the extra `otel` is."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def wanted(setting: bool | None, environ: Mapping[str, str]) -> bool:
    """What is set; where nothing is, whether the environment names a collector."""
    off = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(map(environ.get, ENDPOINTS)) if setting is None else setting


def start_if_wanted(setting: bool | None) -> None:
    """Begin to trace in this process. A collector that is named without the extra is warned of."""
    if not wanted(setting, os.environ):
        return
    if not installed():
        logger.warning("no traces: they need pip install 'rerank-serve[otel]'")
        return
    if any(os.environ.get(name, "").startswith("grpc") for name in PROTOCOLS):
        logger.warning("no traces: they go over HTTP; set %s=http/protobuf", PROTOCOLS[-1])
        return
    start()


def start() -> None:
    """Begin to trace in this process, by the environment's OTEL_… variables; once."""
    if _state.tracer is not None or not installed():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # The environment's name for the service wins over ours.
    resource = Resource.create({SERVICE_NAME: SERVICE}).merge(OTELResourceDetector().detect())
    # `flush` sends the last spans; by itself the provider would hold up the process's end.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tell_in_our_log()
    _state.provider = provider
    _state.tracer = provider.get_tracer(SERVICE)


def _tell_in_our_log() -> None:
    """What the exporter says, of a collector that is away for example, in the log's own format."""
    theirs = logging.getLogger("opentelemetry")
    theirs.handlers = list(logger.handlers)
    theirs.propagate = False


def flush() -> None:
    """Send what is held back, when the process is about to end; at most for FLUSH_S."""
    if _state.provider is None:
        return
    # A collector that does not answer is tried again and again, by a call that knows no end.
    sending = threading.Thread(target=_state.provider.force_flush, daemon=True)
    sending.start()
    sending.join(FLUSH_S)


def enabled() -> bool:
    return _state.tracer is not None


def span(
    name: str, kind: Kind = "internal", parent: Carrier | None = None, **attributes: Any
) -> AbstractContextManager[Any]:
    """A span around a block, under the current one or under `parent`; gives None where off.

    Attributes are named `rerank.…`.
    """
    if _state.tracer is None:
        return NONE
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
        attributes=_named(attributes),
        # Messages may hold what the client sent.
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield current
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            failed(current)
            raise


def _named(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of ours under our name."""
    return {f"rerank.{name}": value for name, value in attributes.items()}


def failed(current: Any) -> None:
    """Mark a span as one that ended in an error."""
    from opentelemetry.trace import StatusCode

    current.set_status(StatusCode.ERROR)


def past(name: str, seconds: float, parent: Carrier | None = None, **attributes: Any) -> None:
    """A span that ends now and began `seconds` ago."""
    if _state.tracer is not None:
        now = time.time_ns()
        between(name, now - round(seconds * 1e9), now, parent, **attributes)


def between(
    name: str, start_ns: int, end_ns: int, parent: Carrier | None = None, **attributes: Any
) -> None:
    """A span of a time that is over, in nanoseconds since 1970."""
    if _state.tracer is None:
        return
    from opentelemetry.propagate import extract

    context = None if parent is None else extract(parent)
    made = _state.tracer.start_span(
        name, context, attributes=_named(attributes), start_time=start_ns
    )
    made.end(end_ns)


def outgoing() -> dict[str, Carrier]:
    """What a call to a replica carries beside its arguments: nothing where there is no trace."""
    if _state.tracer is None:
        return {}
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return {"trace": carrier} if carrier else {}


def trace_id() -> str | None:
    """The current trace's id as logs have it, in hexadecimal."""
    if _state.tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None
