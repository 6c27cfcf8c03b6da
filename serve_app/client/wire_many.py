"""Encode several queries as one `/rerank/batch` request, and decode the response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from serve_app.client import wire
from serve_app.client.errors import BadAnswer, from_fields
from serve_app.errors import RerankError

Outcome = wire.Answer | RerankError


class _Error(wire.Part):
    message: str
    code: str = ""
    param: str | None = None


class _Failed(wire.Part):
    index: int
    error: _Error
    status: int = 500
    retry_after_s: int | None = None


class _Ranked(wire.Body):
    index: int


class _Answers(wire.Part):
    answers: list[_Failed | _Ranked]


def encode(batches: Sequence[wire.Batch], extra: Mapping[str, Any]) -> bytes:
    """Return the request's JSON; documents that all queries share are sent once."""
    first = batches[0]
    shared = all(batch.documents == first.documents for batch in batches)
    queries: list[dict[str, Any]] = []
    for batch in batches:
        query: dict[str, Any] = {"query": batch.query}
        if not shared:
            query["documents"] = batch.documents
        if batch.top_k is not None:
            query["top_k"] = batch.top_k
        queries.append(query | batch.fields)
    body: dict[str, Any] = {"queries": queries, "return_documents": False, **extra}
    if shared:
        body["documents"] = first.documents
    return wire.dumps(body)


def decode(content: bytes, batches: Sequence[wire.Batch], source: str) -> list[Outcome]:
    """Return an outcome for each batch, in order. Raises BadAnswer if the response is invalid."""
    try:
        answers = _Answers.model_validate_json(content).answers
    except ValidationError as error:
        raise wire.invalid_response(error, content, source) from None
    if [answer.index for answer in answers] != list(range(len(batches))):
        raise BadAnswer(f"{source} returned answers that do not match the {len(batches)} queries")
    return [_outcome(answer, batch, source) for answer, batch in zip(answers, batches, strict=True)]


def _outcome(answer: _Failed | _Ranked, batch: wire.Batch, source: str) -> Outcome:
    if isinstance(answer, _Failed):
        fields = answer.error
        error = from_fields(answer.status, fields.message, fields.code, fields.param, source)
        error.retry_after_s = answer.retry_after_s
        return error
    try:
        return wire.to_answer(answer, batch, source)
    except BadAnswer as error:
        return error
