"""The request being served: what is known about it, and the log line written at its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from serve_app.errors import NO_ANSWER, RerankError
from serve_app.telemetry import tracing

# A child of Serve's logger: same destination, but it can be turned off separately.
logger = logging.getLogger("ray.serve.access")

# The dialect of calls by Ray handle.
HANDLE = "handle"
MAX_PATH = 200


@dataclass(slots=True)
class Observed:
    """One request, by HTTP or by handle. Holds no text of its query or documents.

    `timings_ms` are sums if the request has several queries.
    """

    method: str = "CALL"
    path: str = "rerank"
    dialect: str = ""
    key: str = ""
    model: str = ""
    documents: int = 0
    tokens: int = 0
    cached_tokens: int = 0
    timings_ms: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def add_counts(self, *, documents: int, tokens: int, cached_tokens: int) -> None:
        """Add the counts of one ranked query."""
        self.documents += documents
        self.tokens += tokens
        self.cached_tokens += cached_tokens

    def add_timings(self, timings_ms: Mapping[str, float]) -> None:
        """Add the durations of one query's stages, whether or not it failed."""
        for stage, ms in timings_ms.items():
            if stage != "total":
                self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + ms


_current: ContextVar[Observed | None] = ContextVar("rerank_observed", default=None)


def current() -> Observed | None:
    """The current request, if any."""
    return _current.get()


def dialect() -> str:
    """The dialect of the current request; HANDLE if there is none."""
    observed = _current.get()
    return observed.dialect if observed is not None else HANDLE


def note_dialect(name: str) -> None:
    """Set the dialect of the current request, if any."""
    if (observed := _current.get()) is not None:
        observed.dialect = name


def disable_request_log() -> None:
    """Stop writing a log line per request."""
    logger.setLevel(logging.WARNING)


@contextmanager
def observe(observed: Observed) -> Iterator[Observed]:
    """Make the request the current one, also for tasks started inside the block."""
    token = _current.set(observed)
    try:
        yield observed
    finally:
        _current.reset(token)


@contextmanager
def observe_call() -> Iterator[Observed]:
    """Trace and log a call by Ray handle."""
    with observe(Observed(dialect=HANDLE)) as observed, tracing.span("rerank", "server"):
        status = NO_ANSWER
        try:
            yield observed
            status = 200
        except RerankError as error:
            status = error.status
            raise
        except Exception:
            status = RerankError.status
            raise
        finally:
            log(observed, status)


def log(observed: Observed, status: int, *, level: int = logging.INFO) -> None:
    """Write the request's log line; its fields are also attributes of the record, for JSON logs."""
    if not logger.isEnabledFor(level):
        return
    fields = _fields(observed, status)
    rest = " ".join(f"{name}={value}" for name, value in fields.items() if name not in _LEADING)
    leading = (fields["method"], fields["path"], status, fields["total_ms"])
    logger.log(level, "%s %s %d %.1f ms %s", *leading, rest, extra=fields)


_LEADING = frozenset({"method", "path", "status", "total_ms"})


def _fields(observed: Observed, status: int) -> dict[str, Any]:
    total_ms = (time.perf_counter() - observed.started) * 1000
    fields: dict[str, Any] = {
        "method": observed.method,
        # Percent-encoded as sent, since a decoded path could contain a line break.
        "path": quote(observed.path, safe="/:@,+!$&'()*;=~")[:MAX_PATH],
        "status": status,
        "total_ms": round(total_ms, 2),
    }
    if observed.key:
        fields["key"] = observed.key
    if observed.dialect:
        fields["dialect"] = observed.dialect
    if observed.model:
        fields |= {
            "model": observed.model,
            "documents": observed.documents,
            "tokens": observed.tokens,
            "cached_tokens": observed.cached_tokens,
        }
    stages = {f"{stage}_ms": round(ms, 2) for stage, ms in observed.timings_ms.items()}
    trace = tracing.trace_id()
    return fields | stages | ({"trace_id": trace} if trace else {})
