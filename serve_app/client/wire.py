"""A batch as a request body, and an answer's body as scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from serve_app.client.errors import BadAnswer
from serve_app.client.results import StageScore
from serve_app.client.spans import Span

DialectName = Literal["native", "cohere", "jina", "voyage"]


@dataclass(frozen=True, slots=True)
class Job:
    """One batch to score: a request. `options` are fields that are sent where they are not None.

    `start` is the first document's place in the caller's list; `place` the query's own, where
    several are asked together.
    """

    query: str
    documents: list[str | dict[str, Any]]
    start: int = 0
    top_k: int | None = None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    place: int | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What is sent beside query, documents and the number of results."""
        given = {"model": self.model, **self.options}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Answer:
    """`scores` has (index in the batch, score); `tokens` counts query and documents.

    `spans` has those of the documents that have some, by index in the batch; `stages` what each
    stage of a pipeline gave a document. `by_pipeline`: there may be fewer than were asked for.
    """

    scores: list[tuple[int, float]]
    model: str | None
    tokens: int = 0
    warnings: tuple[str, ...] = ()
    spans: Mapping[int, tuple[Span, ...]] = field(default_factory=dict)
    stages: Mapping[int, Mapping[str, StageScore]] = field(default_factory=dict)
    by_pipeline: bool = False


@dataclass(frozen=True, slots=True)
class WireFormat:
    """How a provider calls the number of results, and what else it is sent."""

    top: str
    fixed: Mapping[str, Any] = field(default_factory=dict)


# The documents are here already: providers that would send them back are asked not to.
WIRES: dict[DialectName, WireFormat] = {
    "native": WireFormat("top_k", {"return_documents": False}),
    "cohere": WireFormat("top_n"),
    "jina": WireFormat("top_n", {"return_documents": False}),
    "voyage": WireFormat("top_k", {"return_documents": False}),
}


def encode(job: Job, wire: WireFormat, extra: Mapping[str, Any]) -> bytes:
    """The request's JSON."""
    body: dict[str, Any] = {"query": job.query, "documents": job.documents, **wire.fixed}
    if job.top_k is not None:
        body[wire.top] = job.top_k
    return dumps(body | {**job.fields, **extra})


def dumps(body: Mapping[str, Any]) -> bytes:
    """JSON in UTF-8."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # A lone surrogate, which UTF-8 can't hold but an escape can.
        return json.dumps(body, separators=(",", ":")).encode()


class Part(BaseModel):
    """A part of an answer: strict in what it reads, and blind to the rest."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Scored(Part):
    index: int
    score: FiniteFloat = Field(validation_alias=AliasChoices("relevance_score", "score"))
    relevant_spans: list[Span] | None = None
    stages: dict[str, StageScore] | None = None


class _Usage(Part):
    total_tokens: int | None = None


class _Tokens(Part):
    input_tokens: float | None = None


class _Meta(Part):
    tokens: _Tokens | None = None
    warnings: list[str] | None = None
    pipeline: Mapping[str, Any] | None = None


class Body(Part):
    """One query's answer, in the shapes of all dialects."""

    results: list[_Scored] = Field(validation_alias=AliasChoices("results", "data"))
    model: str | None = None
    usage: _Usage | None = None
    meta: _Meta | None = None
    warnings: list[str] | None = None
    pipeline: Mapping[str, Any] | None = None


def decode(content: bytes, job: Job, source: str) -> Answer:
    """The answer to `job`. Raises BadAnswer, naming `source`, where it is not one."""
    try:
        body = Body.model_validate_json(content)
    except ValidationError as error:
        raise no_answer(error, content, source) from None
    return answer_of(body, job, source)


def no_answer(error: ValidationError, content: bytes, source: str) -> BadAnswer:
    """What is said of a body that is none."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return BadAnswer(
        f"{source} sent no answer to a rerank request: {where}: {first['msg']}; "
        f"it begins {content[:120]!r}"
    )


def answer_of(body: Body, job: Job, source: str) -> Answer:
    """The body as an answer to `job`. Raises BadAnswer where it has other documents."""
    meta = body.meta or _Meta()
    tokens = body.usage.total_tokens if body.usage else None
    if tokens is None and meta.tokens is not None:
        tokens = int(meta.tokens.input_tokens or 0)
    answer = Answer(
        scores=[(hit.index, hit.score) for hit in body.results],
        model=body.model,
        tokens=tokens or 0,
        warnings=tuple(body.warnings or meta.warnings or ()),
        spans={h.index: tuple(h.relevant_spans) for h in body.results if h.relevant_spans},
        stages={h.index: h.stages for h in body.results if h.stages},
        by_pipeline=body.pipeline is not None or meta.pipeline is not None,
    )
    check(answer, job, source)
    return answer


def check(answer: Answer, job: Job, source: str) -> None:
    """Raises BadAnswer unless there is one score for each of the documents that were wanted."""
    count = len(job.documents)
    indices = [index for index, _ in answer.scores]
    if wrong := [index for index in indices if not 0 <= index < count]:
        raise BadAnswer(f"{source} scored document {wrong[0]} of {count}")
    if len(set(indices)) < len(indices):
        raise BadAnswer(f"{source} scored a document twice")
    expected = count if job.top_k is None else min(job.top_k, count)
    # A pipeline answers with what its stages kept.
    if len(indices) > expected or (len(indices) < expected and not answer.by_pipeline):
        raise BadAnswer(f"{source} sent {len(indices)} results where {expected} were asked for")
