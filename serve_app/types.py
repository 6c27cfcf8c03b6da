"""A request and its answer, in no wire format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.types import DEFAULTS, Document, ScoreOptions


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """`documents` is what the model scores; `originals` what the client sent.

    `top_n` None means all. `model` None means the service's default model. `options` are what
    the client asks of the scoring, where it asks.
    """

    query: str
    documents: tuple[Document, ...]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool = False
    originals: tuple[Any, ...] | None = None
    options: ScoreOptions = DEFAULTS


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """`index` is the document's place in the request; `logit` the model's raw score.

    `explanation` is the reason for it, where one was asked for.
    """

    index: int
    relevance_score: float
    logit: float
    document: Any
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Documents by falling relevance, equal scores by index.

    `tokens` counts all scored pairs; `cached_tokens` those that the score store answered.
    `truncated` lists the indices of the documents that were cut, `passages` in how many parts
    those were scored that were split instead.
    `timings_ms` holds each stage's time under its name ("queue", "score", "total", …).
    """

    id: str
    model: str
    results: tuple[RankedDocument, ...]
    tokens: int = 0
    cached_tokens: int = 0
    truncated: tuple[int, ...] = ()
    passages: Mapping[int, int] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    requested_model: str | None = None
