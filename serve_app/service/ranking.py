"""Keys of a request's documents, and the ranking of its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from models.concurrency import yielding
from models.types import Document, ModelInfo, Score, relevance
from serve_app.service.cache import PairKeys
from serve_app.types import RankedDocument, RerankRequest


async def document_keys(
    info: ModelInfo, keys: PairKeys, documents: Sequence[Document], clean: Callable[[str], str]
) -> tuple[list[bytes], dict[bytes, Document]]:
    """Return the keys in the documents' order, and the cleaned documents by key."""
    texts: list[Document] = [
        clean(d) if isinstance(d, str) else replace(d, text=clean(d.text))
        async for d in yielding(documents)
    ]
    order = keys.all(texts) if info.listwise else [keys.of(text) async for text in yielding(texts)]
    by_key: dict[bytes, Document] = {}
    for key, text in zip(order, texts, strict=True):
        by_key.setdefault(key, text)
    return order, by_key


async def rank_documents(
    info: ModelInfo, scores: Sequence[Score], request: RerankRequest
) -> tuple[RankedDocument, ...]:
    """Rank by descending logit, ties by index. Activations are monotonic and keep the order."""
    negated = [-score.logit for score in scores]
    order = sorted(range(len(scores)), key=negated.__getitem__)  # stable: ties stay by index
    del order[len(order) if request.top_n is None else request.top_n :]
    if not request.sort:
        order.sort()
    originals = request.originals or request.documents
    return tuple(
        [
            RankedDocument(
                index=i,
                relevance_score=relevance(scores[i].logit, info.activation),
                logit=scores[i].logit,
                document=originals[i],
                explanation=scores[i].explanation,
            )
            async for i in yielding(order)
        ]
    )
