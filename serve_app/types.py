"""A rerank request and its result, independent of any wire format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.types import DEFAULTS, Document, ScoreOptions
from serve_app.pipeline_spec import Pipeline


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Which spans of each document to return: at most `max_spans`, scored above `threshold`."""

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
    """A query with documents: `documents` is what the model scores, `originals` what was sent.

    `top_n` None means all, `model` None the default model. `priority` 0 is served first. `sort`
    False keeps the order of the documents. `raw_scores` returns logits instead of relevance.
    `truncate` False rejects a document that would be truncated. `deadline` is a time of this
    process's monotonic clock after which the result is no longer needed. `pipeline` replaces the
    model, and `budget_ms` the pipeline's own budget.
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
    """A document's score and rank (from 1) in one stage of a pipeline."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class RankedDocument:
    """A scored document: `index` is its position in the request, `logit` the model's raw score.

    `relevant_spans`, if requested, from most to least relevant. `explanation`: the reason for the
    score, if requested. `stages`: scores in a pipeline, by stage name.
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
    """One stage of a pipeline: documents received, documents kept, duration in milliseconds."""

    name: str
    documents: int
    kept: int
    ms: float


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """The stages in order; `stopped_early` names the one in which the budget ran out."""

    stages: tuple[StageReport, ...]
    stopped_early: str | None = None


@dataclass(frozen=True, slots=True)
class RerankResult:
    """Documents by descending relevance, ties by index.

    `tokens` counts all pairs, `cached_tokens` those answered from the score store. `truncated`
    lists the indices of truncated documents; `passages` maps the indices of split documents to
    their number of passages. `timings_ms` holds the duration of each stage ("queue", "score",
    "total", …). `pipeline` is set if one ranked; `results` are then the documents it kept.
    `warnings` are human-readable.
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
