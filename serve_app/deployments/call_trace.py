"""The timing of one call in a replica: tokenising, waiting and its merged batch's forward pass."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ray.serve.context import _get_serve_request_context

from models.types import Document, Encoded, ScoreOptions, Scorer
from serve_app.telemetry import tracing
from serve_app.telemetry.replica_recorder import ReplicaRecorder

logger = logging.getLogger("ray.serve")

# A batch that takes longer is logged as a warning.
SLOW_BATCH_S = 10.0

Encode = Callable[[str, Sequence[Document], ScoreOptions], Encoded]


class CallTrace:
    """The stages of one chunk; times in nanoseconds since 1970."""

    def __init__(self, recorder: ReplicaRecorder, parent: tracing.Carrier | None) -> None:
        """`parent`: the caller's span if it is traced."""
        if parent is not None:
            tracing.start()
        self.request_id: str = _get_serve_request_context().request_id
        # Set by `trace_batch`.
        self.forward_ns = (0, 0)
        self.batch_calls = 1
        self._encode_ns = (0, 0)
        self._recorder = recorder
        self._parent = parent

    def encode(
        self, encode: Encode, query: str, documents: Sequence[Document], options: ScoreOptions
    ) -> Encoded:
        """Tokenise and record the time. Called in the encoding thread."""
        started = time.time_ns()
        try:
            return encode(query, documents, options)
        finally:
            self._encode_ns = (started, time.time_ns())

    def finish(self, documents: int) -> None:
        """Record the call's times, and its spans if the caller is traced."""
        began, ready = self._encode_ns
        start, end = self.forward_ns
        self._recorder.add("encode_seconds", max(0, ready - began) / 1e9)
        self._recorder.add("queue_seconds", max(0, start - ready) / 1e9)
        if self._parent is None:
            return
        tracing.record_span_at("encode", began, ready, self._parent, documents=documents)
        tracing.record_span_at("wait", ready, start, self._parent)
        size = {"documents": documents, "batch_calls": self.batch_calls}
        tracing.record_span_at("forward", start, end, self._parent, **size)


@contextmanager
def trace_batch(
    scorer: Scorer, calls: Sequence[CallTrace], recorder: ReplicaRecorder
) -> Iterator[None]:
    """Time the forward pass of a merged batch for each of its calls, and log it."""
    started = time.time_ns()
    out_of_memory_before = scorer.engine_stats.counts()["out_of_memory"]
    try:
        yield
    finally:
        ended = time.time_ns()
        for call in calls:
            call.forward_ns, call.batch_calls = (started, ended), len(calls)
        recorder.add("batch_calls", len(calls))
        out_of_memory = scorer.engine_stats.counts()["out_of_memory"] > out_of_memory_before
        _log(calls, (ended - started) / 1e9, out_of_memory)


def _log(calls: Sequence[CallTrace], seconds: float, out_of_memory: bool) -> None:
    """Log each batch at DEBUG; as a warning if it was slow or ran out of memory."""
    level = logging.WARNING if out_of_memory or seconds > SLOW_BATCH_S else logging.DEBUG
    if not logger.isEnabledFor(level):
        return
    # A batch has no request ID of its own, so list those of the merged requests.
    ids = list(dict.fromkeys(call.request_id for call in calls))
    fields = {"batch_calls": len(calls), "request_ids": ids, "forward_ms": round(seconds * 1e3, 2)}
    why = " after running out of memory" if out_of_memory else ""
    text = "a batch of %d calls took %.1f ms%s, for requests %s"
    logger.log(level, text, len(calls), seconds * 1e3, why, " ".join(ids), extra=fields)
