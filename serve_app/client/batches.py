"""Questions cut into batches, packed into requests, and the scores put together again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from serve_app.client import arguments
from serve_app.client.documents import Readable, TextField, read
from serve_app.client.results import BatchFailure, D, Hit, RerankResults
from serve_app.client.wire import Answer, Job
from serve_app.client.wire_many import Outcome
from serve_app.errors import RerankError

# Of one request: the service ranks a few of its queries at a time, and bounds the body's bytes
# (a character takes up to four).
MAX_QUERIES = 64
MAX_CHARS = 2_000_000
APART = (
    "the documents went in several requests, and the pipeline ranked each one's by themselves; "
    "raise batch_size"
)


@dataclass(frozen=True, slots=True)
class Question(Generic[D]):
    """A query with its documents; `place` is its own among several."""

    query: str
    documents: Sequence[D]
    readables: Sequence[Readable]
    place: int | None

    @staticmethod
    def of(
        query: str, documents: Iterable[D], text_field: TextField | None, place: int | None
    ) -> Question[D]:
        """Raises InvalidRequest where the query is no string, or a document has no text."""
        try:
            arguments.query(query)
            given = arguments.documents(documents)
            readables = [read(document, i, text_field) for i, document in enumerate(given)]
        except RerankError as error:
            if place is not None:
                error.add_note(f"query {place}")
            raise
        return Question(query, given, readables, place)


@dataclass(frozen=True, slots=True)
class Whole:
    """What all batches of a call have in common."""

    top_k: int | None
    model: str | None
    options: Mapping[str, Any]


def cut(question: Question[Any], whole: Whole, size: int) -> list[Job]:
    """Jobs of up to `size` documents. The best `top_k` of all are among each one's best."""
    jobs = []
    for start in range(0, len(question.readables), size):
        part = [readable.payload for readable in question.readables[start : start + size]]
        jobs.append(
            Job(
                question.query,
                part,
                start=start,
                top_k=None if whole.top_k is None else min(whole.top_k, len(part)),
                model=whole.model,
                options=whole.options,
                place=question.place,
            )
        )
    return jobs


def pack(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Jobs in their order, those together that fit one request of up to `size` documents."""
    packs: list[list[Job]] = []
    documents = chars = 0
    for job in jobs:
        own = len(job.query) + sum(map(_chars, job.documents))
        documents, chars = documents + len(job.documents), chars + own
        fits = documents <= size and chars <= MAX_CHARS
        if packs and fits and len(packs[-1]) < MAX_QUERIES:
            packs[-1].append(job)
        else:
            packs.append([job])
            documents, chars = len(job.documents), own
    return packs


def _chars(document: str | Mapping[str, Any]) -> int:
    return len(document) if isinstance(document, str) else sum(map(len, document.values()))


def merge(
    questions: Sequence[Question[D]],
    outcomes: Sequence[tuple[Job, Outcome]],
    *,
    top_k: int | None,
    elapsed_ms: float,
) -> list[RerankResults[D]]:
    """One result for each question, of all its batches."""
    by_place: dict[int | None, list[tuple[Job, Outcome]]] = {}
    for job, outcome in outcomes:
        by_place.setdefault(job.place, []).append((job, outcome))
    return [
        _merged(question, by_place.get(question.place, []), top_k, elapsed_ms)
        for question in questions
    ]


def _merged(
    question: Question[D],
    outcomes: Sequence[tuple[Job, Outcome]],
    top_k: int | None,
    elapsed_ms: float,
) -> RerankResults[D]:
    """One result of all batches, under the documents' own indices."""
    answers = [(job, found) for job, found in outcomes if isinstance(found, Answer)]
    scored = [(job.start + i, score) for job, found in answers for i, score in found.scores]
    piped = any(found.by_pipeline for _, found in answers)
    if not piped or len(answers) > 1:
        # A pipeline's own order says more than its scores, of which some may be equal.
        scored.sort(key=lambda pair: (-pair[1], pair[0]))
    stages = {job.start + i: own for job, found in answers for i, own in found.stages.items()}
    spans = {job.start + i: own for job, found in answers for i, own in found.spans.items()}
    documents, readables = question.documents, question.readables
    return RerankResults(
        query=question.query,
        hits=tuple(
            Hit(
                index,
                score,
                documents[index],
                readables[index].text,
                readables[index].metadata,
                spans.get(index, ()),
                stages.get(index, {}),
            )
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
        warnings=((APART,) if piped and len(outcomes) > 1 else ())
        + tuple(
            # The service counts within its batch.
            warning if len(outcomes) == 1 else f"batch from document {job.start}: {warning}"
            for job, found in answers
            for warning in found.warnings
        ),
    )


def indices(job: Job) -> range:
    """The job's documents in the caller's list."""
    return range(job.start, job.start + len(job.documents))
