"""Guides without a model, a model that only looks vectors up, and the loss by the book."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.training import Guide


class WordGuide:
    """Shared words, and a number of the pair's own, so that some negatives beat the positive."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.calls = 0

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        self.calls += 1
        self.asked += [(q, d) for q, part in zip(queries, documents, strict=True) for d in part]
        return [[one(q, d) for d in part] for q, part in zip(queries, documents, strict=True)]


def one(query: str, document: str) -> float:
    shared = len(set(query.split()) & set(document.split()))
    return shared / 2 + 2 * (zlib.crc32(f"{query}|{document}".encode()) % 1000) / 1000


class ConstantGuide:
    """The same score for all pairs: keeps no pair back. Counts them, and nothing else."""

    def __init__(self) -> None:
        self.pairs = 0

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        self.pairs += sum(map(len, documents))
        return [[0.5] * len(part) for part in documents]


class Lookup(nn.Module):
    """A model whose embeddings are its parameters: token id to vector."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.table = nn.Embedding.from_pretrained(vectors, freeze=False)
        self.rows: list[int] = []

    def forward(self, features: dict[str, Any]) -> dict[str, Tensor]:
        self.rows.append(len(features["input_ids"]))
        return {"sentence_embedding": self.table(features["input_ids"][:, 0])}


def lookup(vectors: Tensor) -> Any:
    return nn.Sequential(Lookup(vectors))


def features(columns: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """What a Lookup takes: each place of the batch has a vector of its own."""
    rows = len(columns[0])
    return [
        {
            "input_ids": torch.arange(rows)[:, None] + place * rows,
            "attention_mask": torch.ones(rows, 1, dtype=torch.long),
            "texts": list(texts),
        }
        for place, texts in enumerate(columns)
    ]


def by_the_book(
    columns: Sequence[Sequence[str]],
    embeddings: Sequence[Tensor],
    guide: Guide,
    *,
    temperature: float = 0.01,
    margin: float = 0.0,
    relative: bool = False,
    anchors: bool = True,
    positives: bool = True,
) -> Tensor:
    """The loss written out row by row, uncached, each pair asked for alone."""

    def ask(query: str, document: str) -> float:
        return guide.score([query], [[document]])[0][0]

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return torch.nn.functional.cosine_similarity(a, b, dim=0)

    anchor, positive = columns[0], columns[1]
    losses = []
    for i in range(len(anchor)):
        related = {anchor[i], positive[i]}
        for a, p in zip(anchor, positive, strict=True):
            if a == anchor[i] or p == positive[i]:
                related |= {a, p}
        own = ask(anchor[i], positive[i])
        limit = own - (abs(own) * margin if relative else margin)
        sides = [(0, place) for place in range(1, len(columns))]
        sides += [(0, 0)] * anchors + [(1, 1)] * positives
        logits = [cosine(embeddings[0][i], embeddings[1][i])]
        for left, right in sides:
            for j, text in enumerate(columns[right]):
                if text not in related and not ask(columns[left][i], text) > limit:
                    logits.append(cosine(embeddings[left][i], embeddings[right][j]))
        losses.append(-torch.log_softmax(torch.stack(logits) / temperature, 0)[0])
    return torch.stack(losses).mean()
