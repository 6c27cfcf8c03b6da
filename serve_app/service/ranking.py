"""A request's documents as keys of the score store, and scores as a ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from models.concurrency import yielding
from models.types import Document, ModelInfo, Score, relevance
from serve_app.service.cache import PairKeys
from serve_app.types import RankedDocument, RerankRequest


async def keys_of(
    info: ModelInfo, keys: PairKeys, documents: Sequence[Document], clean: Callable[[str], str]
) -> tuple[list[bytes], dict[bytes, Document]]:
    """The documents' keys in their order, and what each stands for."""
    texts: list[Document] = [
        clean(d) if isinstance(d, str) else replace(d, text=clean(d.text))
        async for d in yielding(documents)
    ]
    order = keys.all(texts) if info.listwise else [keys.of(text) async for text in yielding(texts)]
    by_key: dict[bytes, Document] = {}
    for key, text in zip(order, texts, strict=True):
        by_key.setdefault(key, text)
    return order, by_key


async def ranked_by(
    info: ModelInfo, scores: Sequence[Score], request: RerankRequest
) -> tuple[RankedDocument, ...]:
    """By falling raw score, equal ones by index; the activations keep that order."""
    falling = [-score.logit for score in scores]
    order = sorted(range(len(scores)), key=falling.__getitem__)  # stable: ties stay by index
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
