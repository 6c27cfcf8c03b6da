"""Keys of a request's documents, and the ranking of its scores."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from models.concurrency import in_thread_if, yielding
from models.types import Document, ModelInfo, Score, ScoreOptions, relevance
from serve_app.service.cache import PairKeys
from serve_app.types import RankedDocument, RerankRequest

# Longer texts are cleaned and hashed in a thread: every 10,000 characters take up to 3 ms.
LARGE_CHARS = 16_384


async def query_keys(info: ModelInfo, query: str, options: ScoreOptions) -> PairKeys:
    """Return the keys of a query's pairs. A query may be an image of megabytes."""
    large = len(query) + len(options.query_image or "") > LARGE_CHARS
    return await in_thread_if(large, PairKeys, info, query, options)


async def document_keys(
    info: ModelInfo, keys: PairKeys, documents: Sequence[Document], clean: Callable[[str], str]
) -> tuple[list[bytes], dict[bytes, Document]]:
    """Return the keys in the documents' order, and the cleaned documents by key."""
    texts = [
        _cleaned(d, clean) if len(d) <= LARGE_CHARS else await asyncio.to_thread(_cleaned, d, clean)
        async for d in yielding(documents)
    ]
    if info.listwise:
        large = sum(map(_size, texts)) > LARGE_CHARS
        order = await in_thread_if(large, keys.all, texts)
    else:
        order = [
            keys.of(text) if _size(text) <= LARGE_CHARS else await asyncio.to_thread(keys.of, text)
            async for text in yielding(texts)
        ]
    by_key: dict[bytes, Document] = {}
    for key, text in zip(order, texts, strict=True):
        by_key.setdefault(key, text)
    return order, by_key


def _cleaned(document: Document, clean: Callable[[str], str]) -> Document:
    if isinstance(document, str):
        return clean(document)
    return replace(document, text=clean(document.text))


def _size(document: Document) -> int:
    return len(document) if isinstance(document, str) else len(document.data_uri) + len(document)


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
