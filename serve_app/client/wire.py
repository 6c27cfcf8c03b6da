"""Encode a batch as a request body, and decode a response body into scores."""

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
class Batch:
    """A query with the documents to score in one request.

    `options` are fields that are sent unless they are None. `start` is the position of the first
    document in the caller's list, `query_index` that of the query if there are several.
    """

    query: str
    documents: list[str | dict[str, Any]]
    start: int = 0
    top_k: int | None = None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    query_index: int | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The request's fields other than query, documents and the number of results."""
        fields = {"model": self.model, **self.options}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Answer:
    """A batch's scores as (index in the batch, score); `tokens` covers query and documents.

    `spans` and `stages` (a pipeline's scores) are keyed by index in the batch. With
    `by_pipeline`, there may be fewer results than requested.
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
    """A provider's name for the number of results, and the fields it is always sent."""

    top: str
    fixed: Mapping[str, Any] = field(default_factory=dict)


# The caller has the documents: providers that would return them are asked not to.
WIRES: dict[DialectName, WireFormat] = {
    "native": WireFormat("top_k", {"return_documents": False}),
    "cohere": WireFormat("top_n"),
    "jina": WireFormat("top_n", {"return_documents": False}),
    "voyage": WireFormat("top_k", {"return_documents": False}),
}


def encode(batch: Batch, wire: WireFormat, extra: Mapping[str, Any]) -> bytes:
    """Return the request's JSON."""
    body: dict[str, Any] = {"query": batch.query, "documents": batch.documents, **wire.fixed}
    if batch.top_k is not None:
        body[wire.top] = batch.top_k
    return dumps(body | {**batch.fields, **extra})


def dumps(body: Mapping[str, Any]) -> bytes:
    """Return JSON in UTF-8."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # A lone surrogate, which UTF-8 cannot encode but a JSON escape can.
        return json.dumps(body, separators=(",", ":")).encode()


class Part(BaseModel):
    """Part of a response: strict about the types it reads; unknown fields are ignored."""

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
    """The response to one query, in any dialect's format."""

    results: list[_Scored] = Field(validation_alias=AliasChoices("results", "data"))
    model: str | None = None
    usage: _Usage | None = None
    meta: _Meta | None = None
    warnings: list[str] | None = None
    pipeline: Mapping[str, Any] | None = None


def decode(content: bytes, batch: Batch, source: str) -> Answer:
    """Parse the response to `batch`. Raises BadAnswer, naming `source`, if it is invalid."""
    try:
        body = Body.model_validate_json(content)
    except ValidationError as error:
        raise invalid_response(error, content, source) from None
    return to_answer(body, batch, source)


def invalid_response(error: ValidationError, content: bytes, source: str) -> BadAnswer:
    """Return the error for a body that does not validate."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "body"
    return BadAnswer(
        f"{source} returned an invalid rerank response: {where}: {first['msg']}; "
        f"the response starts with {content[:120]!r}"
    )


def to_answer(body: Body, batch: Batch, source: str) -> Answer:
    """Convert the response to `batch`. Raises BadAnswer if its documents do not match."""
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
    check(answer, batch, source)
    return answer


def check(answer: Answer, batch: Batch, source: str) -> None:
    """Check that there is one score per requested document. Raises BadAnswer."""
    count = len(batch.documents)
    indices = [index for index, _ in answer.scores]
    if wrong := [index for index in indices if not 0 <= index < count]:
        raise BadAnswer(f"{source} returned index {wrong[0]}; expected 0 to {count - 1}")
    if len(set(indices)) < len(indices):
        raise BadAnswer(f"{source} scored a document twice")
    expected = count if batch.top_k is None else min(batch.top_k, count)
    # A pipeline returns only the documents that its stages kept.
    if len(indices) > expected or (len(indices) < expected and not answer.by_pipeline):
        raise BadAnswer(f"{source} returned {len(indices)} results instead of {expected}")
