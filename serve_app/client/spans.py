"""Relevant spans: the parts of a document that answer the query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Minimum score of a span (0 to 1), and maximum number per document (None: no limit)."""

    threshold: float = 0.1
    max_spans: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a document's text, with a score in [0, 1]."""

    start: int
    end: int
    score: float

    def of(self, text: str) -> str:
        """Return the span's text, given the document's."""
        return text[self.start : self.end]


Spans = bool | SpanOptions | None


def request_field(spans: Spans) -> dict[str, Any] | None:
    """Return the value of the request's `relevant_spans`. Raises InvalidRequest."""
    if spans is None or spans is False:
        return None
    options = SpanOptions() if spans is True else spans
    if not isinstance(options, SpanOptions):
        raise InvalidRequest(
            f"relevant_spans must be True, False or SpanOptions, not {type(options).__name__}",
            param="relevant_spans",
        )
    fields: Mapping[str, Any] = {"threshold": options.threshold, "max_spans": options.max_spans}
    return {"mode": "enabled", **{k: v for k, v in fields.items() if v is not None}}


def highlight(text: str, spans: Iterable[Span], before: str, after: str) -> str:
    """Put `before` and `after` around each span; overlapping spans are marked as one."""
    parts: list[str] = []
    done = 0
    for start, end in _merged(spans):
        parts += [text[done:start], before, text[start:end], after]
        done = end
    return "".join([*parts, text[done:]])


def _merged(spans: Iterable[Span]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if merged and span.start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], span.end))
        else:
            merged.append((span.start, span.end))
    return merged
