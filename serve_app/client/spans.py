"""Which parts of a document answer the query: how they are asked for, and what comes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Spans scored `threshold` (0 to 1) or more, `max_spans` of each document; None: all those."""

    threshold: float = 0.1
    max_spans: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a document's text; `score` is in [0, 1]."""

    start: int
    end: int
    score: float

    def of(self, text: str) -> str:
        """The span's part of its document's text."""
        return text[self.start : self.end]


Spans = bool | SpanOptions | None


def asked(wanted: Spans) -> dict[str, Any] | None:
    """The request's field. Raises InvalidRequest where the options are none."""
    if wanted is None or wanted is False:
        return None
    options = SpanOptions() if wanted is True else wanted
    if not isinstance(options, SpanOptions):
        raise InvalidRequest(
            f"relevant_spans must be True, False or SpanOptions, not {type(options).__name__}",
            param="relevant_spans",
        )
    given: Mapping[str, Any] = {"threshold": options.threshold, "max_spans": options.max_spans}
    return {"mode": "enabled", **{k: v for k, v in given.items() if v is not None}}


def marked(text: str, spans: Iterable[Span], before: str, after: str) -> str:
    """The text with `before` and `after` around its spans; what overlaps is marked as one."""
    parts: list[str] = []
    done = 0
    for start, end in _joined(spans):
        parts += [text[done:start], before, text[start:end], after]
        done = end
    return "".join([*parts, text[done:]])


def _joined(spans: Iterable[Span]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if joined and span.start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], span.end))
        else:
            joined.append((span.start, span.end))
    return joined
