"""Several queries as one body of `/rerank/batch`, and its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from serve_app.client import wire
from serve_app.client.errors import BadAnswer, from_fault
from serve_app.errors import RerankError

Outcome = wire.Answer | RerankError


class _Fault(wire.Part):
    message: str
    code: str = ""
    param: str | None = None


class _Failed(wire.Part):
    index: int
    error: _Fault
    status: int = 500
    retry_after_s: int | None = None


class _Ranked(wire.Body):
    index: int


class _Answers(wire.Part):
    answers: list[_Failed | _Ranked]


def encode(jobs: Sequence[wire.Job], extra: Mapping[str, Any]) -> bytes:
    """The request's JSON. Documents that all queries share are sent once."""
    first = jobs[0]
    shared = all(job.documents == first.documents for job in jobs)
    queries: list[dict[str, Any]] = []
    for job in jobs:
        query: dict[str, Any] = {"query": job.query}
        if not shared:
            query["documents"] = job.documents
        if job.top_k is not None:
            query["top_k"] = job.top_k
        queries.append(query | job.fields)
    body: dict[str, Any] = {"queries": queries, "return_documents": False, **extra}
    if shared:
        body["documents"] = first.documents
    return wire.dumps(body)


def decode(content: bytes, jobs: Sequence[wire.Job], source: str) -> list[Outcome]:
    """An outcome for each job, in their order. Raises BadAnswer where there is no such answer."""
    try:
        answers = _Answers.model_validate_json(content).answers
    except ValidationError as error:
        raise wire.no_answer(error, content, source) from None
    if [answer.index for answer in answers] != list(range(len(jobs))):
        raise BadAnswer(f"{source} answered other queries than the {len(jobs)} it was asked")
    return [_outcome(answer, job, source) for answer, job in zip(answers, jobs, strict=True)]


def _outcome(answer: _Failed | _Ranked, job: wire.Job, source: str) -> Outcome:
    if isinstance(answer, _Failed):
        fault = answer.error
        error = from_fault(answer.status, fault.message, fault.code, fault.param, source)
        error.retry_after_s = answer.retry_after_s
        return error
    try:
        return wire.answer_of(answer, job, source)
    except BadAnswer as error:
        return error
