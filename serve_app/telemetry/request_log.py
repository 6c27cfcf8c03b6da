"""What is known of the request that is being answered, from its first byte to its log line."""

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

# Below Serve's own, so that its lines go where the others go and can be turned off alone.
logger = logging.getLogger("ray.serve.access")

# The dialect of calls by handle.
HANDLE = "handle"
MAX_PATH = 200


@dataclass(slots=True)
class Observed:
    """One request, by HTTP or by handle. No text of its query or documents is in it.

    `timings_ms` are of all its queries together, where it has several.
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

    def ranked(self, *, documents: int, tokens: int, cached_tokens: int) -> None:
        """Add what one query's answer took."""
        self.documents += documents
        self.tokens += tokens
        self.cached_tokens += cached_tokens

    def took(self, timings_ms: Mapping[str, float]) -> None:
        """Add the time of one query's stages, also where it failed."""
        for stage, ms in timings_ms.items():
            if stage != "total":
                self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + ms


_current: ContextVar[Observed | None] = ContextVar("rerank_observed", default=None)


def current() -> Observed | None:
    """The request that this code runs for, if it runs for one."""
    return _current.get()


def dialect() -> str:
    """The dialect of the request that this code runs for."""
    observed = _current.get()
    return observed.dialect if observed is not None else HANDLE


def note_dialect(name: str) -> None:
    """Note the dialect of the request that this code runs for."""
    if (observed := _current.get()) is not None:
        observed.dialect = name


def no_lines() -> None:
    """Write no line for each request."""
    logger.setLevel(logging.WARNING)


@contextmanager
def observing(observed: Observed) -> Iterator[Observed]:
    """Make the request the current one, for tasks that start within as well."""
    token = _current.set(observed)
    try:
        yield observed
    finally:
        _current.reset(token)


@contextmanager
def calling() -> Iterator[Observed]:
    """Observe a call by handle: its span, and its line in the log."""
    with observing(Observed(dialect=HANDLE)) as observed, tracing.span("rerank", "server"):
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
    """The request's one line. Its fields stand in JSON logs by name, and in text in the line."""
    if not logger.isEnabledFor(level):
        return
    fields = _fields(observed, status)
    words = [f"{name}={value}" for name, value in fields.items() if name not in _IN_FRONT]
    line = " ".join(words)
    text = "%s %s %d %.1f ms %s"
    front = (fields["method"], fields["path"], status, fields["total_ms"], line)
    logger.log(level, text, *front, extra=fields)


_IN_FRONT = frozenset({"method", "path", "status", "total_ms"})


def _fields(observed: Observed, status: int) -> dict[str, Any]:
    total_ms = (time.perf_counter() - observed.started) * 1000
    fields: dict[str, Any] = {
        "method": observed.method,
        # As it was sent: what is decoded could hold a line's end.
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
