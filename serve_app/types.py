"""A request and its answer, in no wire format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.types import DEFAULTS, Document, ScoreOptions
from serve_app.pipeline_spec import Pipeline


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Which spans of each document are wanted: scored above `threshold`, `max_spans` at most."""

    threshold: float = 0.1
    max_spans: int | None = None


@dataclass(frozen=True, slots=True)
class RelevantSpan:
    """Characters [start, end) of a document, counted in code points; `score` is in [0, 1]."""

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """`documents` is what the model scores; `originals` what the client sent.

    `top_n` None means all. `model` None means the service's default model. `options` are what
    the client asks of the scoring, where it asks. `priority` 0 is served first, larger later.
    `sort` False keeps the documents' own order. `raw_scores`: show logits, not relevance.
    `truncate` False refuses a document that would be cut. `deadline` is the moment of this
    process's monotonic clock from which on nobody wants the answer. `pipeline` ranks in place of
    a model; `budget_ms` wins over its own.
    """

    query: str
    documents: tuple[Document, ...]
    model: str | None = None
    top_n: int | None = None
    return_documents: bool = False
    originals: tuple[Any, ...] | None = None
    options: ScoreOptions = DEFAULTS
    priority: int = 0
    relevant_spans: SpanOptions | None = None
    sort: bool = True
    raw_scores: bool = False
    truncate: bool = True
    deadline: float = math.inf
    pipeline: Pipeline | None = None
    budget_ms: int | None = None


@dataclass(frozen=True, slots=True)
class StageScore:
    """A document's score in one stage of a pipeline, and its rank there, from 1."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """`index` is the document's place in the request; `logit` the model's raw score.

    `relevant_spans`, where they were asked for: from most to least relevant. `explanation` is the
    reason for the score, where one was asked for. `stages`: of a pipeline, by its stages' names.
    """

    index: int
    relevance_score: float
    logit: float
    document: Any
    relevant_spans: tuple[RelevantSpan, ...] = ()
    explanation: str = ""
    stages: Mapping[str, StageScore] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did: `documents` came in, `kept` went on, in `ms` milliseconds."""

    name: str
    documents: int
    kept: int
    ms: float


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """The stages in turn; `stopped_early` names the one in which the budget was used up."""

    stages: tuple[StageReport, ...]
    stopped_early: str | None = None


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Documents by falling relevance, equal scores by index.

    `tokens` counts all scored pairs; `cached_tokens` those that the score store answered.
    `truncated` lists the indices of the documents that were cut, `passages` in how many parts
    those were scored that were split instead.
    `timings_ms` holds each stage's time under its name ("queue", "score", "total", …).
    `pipeline` is there where one ranked: `results` are then what it kept. `warnings` are for
    people.
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
    pipeline: PipelineReport | None = None
    warnings: tuple[str, ...] = ()
