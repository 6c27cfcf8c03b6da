"""Split documents into batches, group batches into requests, and merge the scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from serve_app.client import arguments
from serve_app.client.documents import ParsedDocument, TextField, parse
from serve_app.client.results import BatchFailure, D, Hit, RerankResults
from serve_app.client.wire import Answer, Batch
from serve_app.client.wire_many import Outcome
from serve_app.errors import RerankError

# Limits per request: the service ranks only a few of its queries at a time, and limits the size
# of the body in bytes (a character takes up to four).
MAX_QUERIES = 64
MAX_CHARS = 2_000_000
SPLIT_PIPELINE = (
    "the documents were split over several requests, and the pipeline ranked each request "
    "separately; raise batch_size to send them in one"
)


@dataclass(frozen=True, slots=True)
class QueryDocuments(Generic[D]):
    """A query with its documents; `index` is the query's position if there are several."""

    query: str
    documents: Sequence[D]
    parsed: Sequence[ParsedDocument]
    index: int | None


def prepare(
    query: str, documents: Iterable[D], text_field: TextField | None, index: int | None
) -> QueryDocuments[D]:
    """Validate a query and its documents.

    Raises InvalidRequest if the query is not a string or a document has no text.
    """
    try:
        arguments.query(query)
        given = arguments.documents(documents)
        parsed = [parse(document, i, text_field) for i, document in enumerate(given)]
    except RerankError as error:
        if index is not None:
            error.add_note(f"query {index}")
        raise
    return QueryDocuments(query, given, parsed, index)


@dataclass(frozen=True, slots=True)
class SharedFields:
    """The request fields that all batches of a call share."""

    top_k: int | None
    model: str | None
    options: Mapping[str, Any]


def split(entry: QueryDocuments[Any], shared: SharedFields, size: int) -> list[Batch]:
    """Split into batches of at most `size` documents.

    Each batch returns its own best `top_k`, which include the overall best `top_k`.
    """
    batches = []
    for start in range(0, len(entry.parsed), size):
        part = [document.payload for document in entry.parsed[start : start + size]]
        batches.append(
            Batch(
                entry.query,
                part,
                start=start,
                top_k=None if shared.top_k is None else min(shared.top_k, len(part)),
                model=shared.model,
                options=shared.options,
                query_index=entry.index,
            )
        )
    return batches


def group(batches: Sequence[Batch], size: int) -> list[list[Batch]]:
    """Group consecutive batches into requests of at most `size` documents."""
    requests: list[list[Batch]] = []
    documents = chars = 0
    for batch in batches:
        added = len(batch.query) + sum(map(_chars, batch.documents))
        documents, chars = documents + len(batch.documents), chars + added
        fits = documents <= size and chars <= MAX_CHARS
        if requests and fits and len(requests[-1]) < MAX_QUERIES:
            requests[-1].append(batch)
        else:
            requests.append([batch])
            documents, chars = len(batch.documents), added
    return requests


def _chars(document: str | Mapping[str, Any]) -> int:
    return len(document) if isinstance(document, str) else sum(map(len, document.values()))


def merge(
    entries: Sequence[QueryDocuments[D]],
    outcomes: Sequence[tuple[Batch, Outcome]],
    *,
    top_k: int | None,
    elapsed_ms: float,
) -> list[RerankResults[D]]:
    """Merge the batches of each query into one result per query."""
    by_query: dict[int | None, list[tuple[Batch, Outcome]]] = {}
    for batch, outcome in outcomes:
        by_query.setdefault(batch.query_index, []).append((batch, outcome))
    return [_merged(entry, by_query.get(entry.index, []), top_k, elapsed_ms) for entry in entries]


def _merged(
    entry: QueryDocuments[D],
    outcomes: Sequence[tuple[Batch, Outcome]],
    top_k: int | None,
    elapsed_ms: float,
) -> RerankResults[D]:
    """Merge one query's batches; indices refer to the caller's list of documents."""
    answers = [(batch, found) for batch, found in outcomes if isinstance(found, Answer)]
    scored = [(batch.start + i, score) for batch, found in answers for i, score in found.scores]
    from_pipeline = any(found.by_pipeline for _, found in answers)
    if not from_pipeline or len(answers) > 1:
        # Keep a pipeline's own order where possible: some of its scores may be equal.
        scored.sort(key=lambda pair: (-pair[1], pair[0]))
    stages = {batch.start + i: own for batch, found in answers for i, own in found.stages.items()}
    spans = {batch.start + i: own for batch, found in answers for i, own in found.spans.items()}
    documents, parsed = entry.documents, entry.parsed
    return RerankResults(
        query=entry.query,
        hits=tuple(
            Hit(
                index,
                score,
                documents[index],
                parsed[index].text,
                parsed[index].metadata,
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
            BatchFailure(indices(batch), found)
            for batch, found in outcomes
            if isinstance(found, RerankError)
        ),
        warnings=((SPLIT_PIPELINE,) if from_pipeline and len(outcomes) > 1 else ())
        + tuple(
            # Indices in the service's warnings are relative to the batch.
            warning
            if len(outcomes) == 1
            else f"batch starting at document {batch.start}: {warning}"
            for batch, found in answers
            for warning in found.warnings
        ),
    )


def indices(batch: Batch) -> range:
    """Return the positions of the batch's documents in the caller's list."""
    return range(batch.start, batch.start + len(batch.documents))
