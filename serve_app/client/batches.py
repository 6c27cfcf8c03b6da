"""Large inputs cut into batches, and the batches' scores put together again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from serve_app.client.documents import Readable
from serve_app.client.results import BatchFailure, D, Hit, RerankResults
from serve_app.client.wire import Answer, Job
from serve_app.errors import RerankError

Outcome = Answer | RerankError


def cut(
    query: str,
    readables: Sequence[Readable],
    size: int,
    *,
    top_k: int | None,
    model: str | None,
    options: Mapping[str, Any],
) -> list[Job]:
    """Jobs of up to `size` documents. The best `top_k` of all are among each one's best."""
    whole = Job(query, [], top_k=top_k, model=model, options=options)
    jobs = []
    for start in range(0, len(readables), size):
        part = [readable.payload for readable in readables[start : start + size]]
        wanted = None if top_k is None else min(top_k, len(part))
        jobs.append(replace(whole, documents=part, start=start, top_k=wanted))
    return jobs


def merge(
    query: str,
    documents: Sequence[D],
    readables: Sequence[Readable],
    outcomes: Sequence[tuple[Job, Outcome]],
    *,
    top_k: int | None,
    elapsed_ms: float,
) -> RerankResults[D]:
    """One result of all batches, under the documents' own indices."""
    answers = [(job, found) for job, found in outcomes if isinstance(found, Answer)]
    scored = [(job.start + i, score) for job, found in answers for i, score in found.scores]
    scored.sort(key=lambda pair: (-pair[1], pair[0]))
    return RerankResults(
        query=query,
        hits=tuple(
            Hit(index, score, documents[index], readables[index].text, readables[index].metadata)
            for index, score in scored[:top_k]
        ),
        total=len(documents),
        model=next((found.model for _, found in answers if found.model), None),
        tokens=sum(found.tokens for _, found in answers),
        requests=len(answers),
        elapsed_ms=elapsed_ms,
        failures=tuple(
            BatchFailure(indices(job), found)
            for job, found in outcomes
            if isinstance(found, RerankError)
        ),
        warnings=tuple(
            # The service counts within its batch.
            warning if len(outcomes) == 1 else f"batch from document {job.start}: {warning}"
            for job, found in answers
            for warning in found.warnings
        ),
    )


def indices(job: Job) -> range:
    """The job's documents in the caller's list."""
    return range(job.start, job.start + len(job.documents))
