"""Build the results of a response: the fields of each document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve_app.types import PipelineReport, RerankRequest, RerankResult

Hits = list[dict[str, Any]]


def bare(result: RerankResult, request: RerankRequest, name: str) -> Hits:
    """Return only index and score, the score named `name`."""
    if request.raw_scores:
        return [{"index": r.index, name: r.logit} for r in result.results]
    return [{"index": r.index, name: r.relevance_score} for r in result.results]


def full(result: RerankResult, request: RerankRequest, name: str = "relevance_score") -> Hits:
    """Return index and score, with passages, relevant spans and explanations where available."""
    hits = bare(result, request, name)
    for hit in hits if result.passages else ():
        hit["passages"] = result.passages.get(hit["index"], 1)
    if request.relevant_spans is not None:
        for hit, ranked in zip(hits, result.results, strict=True):
            if ranked.relevant_spans:
                hit["relevant_spans"] = [
                    {"start": span.start, "end": span.end, "score": span.score}
                    for span in ranked.relevant_spans
                ]
    for hit, ranked in zip(hits, result.results, strict=True) if request.options.explain else ():
        if ranked.explanation:
            hit["explanation"] = ranked.explanation
    return hits


def report(pipeline: PipelineReport) -> dict[str, Any]:
    """Return what each stage did, and in which one the budget ran out."""
    stages = [
        {"name": s.name, "documents": s.documents, "kept": s.kept, "ms": round(s.ms, 3)}
        for s in pipeline.stages
    ]
    return {"stages": stages, "stopped_early": pipeline.stopped_early}


def add_objects(hits: Hits, request: RerankRequest, *, objects: bool = True) -> None:
    """Add the documents if requested: strings as `{"text": …}` unless `objects` is False."""
    if request.return_documents:
        sent = request.originals or request.documents
        for hit in hits:
            document = sent[hit["index"]]
            wrapped = objects and isinstance(document, str)
            hit["document"] = {"text": document} if wrapped else document


def as_text(request: RerankRequest) -> Sequence[Any]:
    """Return the documents: objects with text as their text, images as sent."""
    if request.originals is None:
        return request.documents
    pairs = zip(request.documents, request.originals, strict=True)
    return [d if isinstance(d, str) else sent for d, sent in pairs]
