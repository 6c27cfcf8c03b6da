"""Cosine similarity over a server's embeddings, for servers without a rerank endpoint."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from models.concurrency import gather_or_cancel
from models.remote import answers, cutting
from models.remote.connection import Connection, RemoteModel
from models.remote.errors import RemoteRefused
from models.types import DEFAULTS, Document, Score, ScoreOptions

Vector = list[float]


class EmbeddingScorer(RemoteModel):
    """Embeds the query along with the documents; a score is their cosine."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, connection.info(family="remote-embeddings"))

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        """Scores in document order. Raises a RemoteError."""
        spec = self._connection.spec
        if options.long_document == "max_passage" or options.query_image:
            raise RemoteRefused(
                f"model {spec.name} supports neither long_document 'max_passage' nor query images"
            )
        limit = options.max_tokens_per_doc or spec.max_tokens_per_doc
        texts = [d if isinstance(d, str) else d.text for d in documents]
        sent = [query, *(cutting.shorten(text, tokens=limit) for text in texts)]
        weights = [cutting.estimate(text) for text in sent]
        parts = cutting.calls(
            0, weights, max_documents=self._connection.max_documents, max_tokens=None
        )
        if len(parts) > spec.max_calls:
            raise RemoteRefused(
                f"{spec.name}: {len(documents)} documents need {len(parts)} calls, and the maximum "
                f"per request is {spec.max_calls}; send fewer documents"
            )
        deadline = asyncio.get_running_loop().time() + spec.timeout_s
        found = await gather_or_cancel(
            self._embed([sent[i] for i in part], deadline) for part in parts
        )
        vectors = [vector for part, _ in found for vector in part]
        cost = sum(cost for _, cost in found)
        shared = cutting.shares(cost, weights)
        shared[1] += shared[0]  # count the query's tokens with the first document
        head = vectors[0]
        return [
            Score(_cosine(head, vector), share, truncated=cut != text)
            for vector, share, cut, text in zip(
                vectors[1:], shared[1:], sent[1:], texts, strict=True
            )
        ]

    async def _embed(self, texts: Sequence[str], deadline: float) -> tuple[list[Vector], int]:
        body = self._connection.with_parameters({"model": self._connection.model, "input": texts})
        transport = self._connection.transport
        answer = await transport.post(self._connection.url, body, deadline=deadline)
        vectors = _vectors(answer, len(texts))
        if vectors is None:
            raise transport.unusable_answer(
                f"expected {len(texts)} vectors of equal length", answer
            )
        cost = answers.tokens_in(answer)
        cost = sum(map(cutting.estimate, texts)) if cost is None else cost
        transport.spend(cost)
        return vectors, cost


def _vectors(answer: Any, count: int) -> list[Vector] | None:
    """One finite vector per text, all of equal length, or None if the answer lacks them."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != count:
        return None
    found: dict[int, Vector] = {}
    for entry in data:
        index, vector = (
            (entry.get("index"), entry.get("embedding")) if isinstance(entry, dict) else (None,) * 2
        )
        if type(index) is not int or not isinstance(vector, list) or not vector:
            return None
        if not all(type(x) in (int, float) and math.isfinite(x) for x in vector):
            return None
        found[index] = vector
    if sorted(found) != list(range(count)) or len({len(v) for v in found.values()}) != 1:
        return None
    return [found[i] for i in range(count)]


def _cosine(a: Vector, b: Vector) -> float:
    norm = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0
