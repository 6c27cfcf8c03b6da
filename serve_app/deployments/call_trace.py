"""One call on its way through a replica: when it was where, and with which others it ran."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ray.serve.context import _get_serve_request_context

from models.types import Document, Encoded, ScoreOptions, Scorer
from serve_app.telemetry import tracing
from serve_app.telemetry.replica_recorder import ReplicaFigures

logger = logging.getLogger("ray.serve")

# A batch that takes longer is worth a line at any level that shows warnings.
SLOW_BATCH_S = 10.0

Encode = Callable[[str, Sequence[Document], ScoreOptions], Encoded]


class Call:
    """A chunk's stages; times in nanoseconds since 1970. Ray Serve knows the request's id."""

    def __init__(self, figures: ReplicaFigures, trace: tracing.Carrier | None) -> None:
        if trace is not None:
            tracing.start()
        self.request_id: str = _get_serve_request_context().request_id
        self.forwarded = (0, 0)
        self.company = 1
        self._figures = figures
        self._trace = trace
        self._encoding = (0, 0)

    def encoded(
        self, encode: Encode, query: str, documents: Sequence[Document], options: ScoreOptions
    ) -> Encoded:
        """Tokenise. Runs in a thread of its own."""
        started = time.time_ns()
        try:
            return encode(query, documents, options)
        finally:
            self._encoding = (started, time.time_ns())

    def ended(self, documents: int) -> None:
        """Count the call, and trace it where its caller does."""
        began, ready = self._encoding
        start, end = self.forwarded
        self._figures.add("encode_seconds", max(0, ready - began) / 1e9)
        self._figures.add("queue_seconds", max(0, start - ready) / 1e9)
        if self._trace is None:
            return
        tracing.between("encode", began, ready, self._trace, documents=documents)
        tracing.between("wait", ready, start, self._trace)
        size = {"documents": documents, "batch_calls": self.company}
        tracing.between("forward", start, end, self._trace, **size)


@contextmanager
def told(scorer: Scorer, calls: Sequence[Call], figures: ReplicaFigures) -> Iterator[None]:
    """Around the forward pass of a merged batch: its times, and its line in the log."""
    started = time.time_ns()
    halved = scorer.engine_stats.counts()["out_of_memory"]
    try:
        yield
    finally:
        ended = time.time_ns()
        for call in calls:
            call.forwarded, call.company = (started, ended), len(calls)
        figures.add("batch_calls", len(calls))
        _log(calls, (ended - started) / 1e9, scorer.engine_stats.counts()["out_of_memory"] > halved)


def _log(calls: Sequence[Call], seconds: float, out_of_memory: bool) -> None:
    """At DEBUG for each batch; a slow one, or one that met the end of the memory, as a warning."""
    level = logging.WARNING if out_of_memory or seconds > SLOW_BATCH_S else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    # A batch has no request of its own; those that it merged are named.
    ids = list(dict.fromkeys(call.request_id for call in calls))
    fields = {"batch_calls": len(calls), "request_ids": ids, "forward_ms": round(seconds * 1e3, 2)}
    why = ", after running out of memory" if out_of_memory else ""
    text = "a batch of %d calls took %.1f ms%s, of requests %s"
    logger.log(level, text, len(calls), seconds * 1e3, why, " ".join(ids), extra=fields)
