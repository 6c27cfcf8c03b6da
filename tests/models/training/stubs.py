"""Guides without a model, a model that looks up vectors, and a reference implementation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.training import Guide, OptimizedRerankerCachedGISTEmbedLoss, RerankerCachedGISTEmbedLoss
from tests.word_overlap import shared_words


class WordGuide:
    """Scores shared words plus a hash of the pair, so that some negatives beat the positive."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.calls = 0

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        self.calls += 1
        self.asked += [(q, d) for q, part in zip(queries, documents, strict=True) for d in part]
        return [
            [word_score(q, d) for d in part] for q, part in zip(queries, documents, strict=True)
        ]


def word_score(query: str, document: str) -> float:
    return (
        shared_words(query, document) / 2
        + 2 * (zlib.crc32(f"{query}|{document}".encode()) % 1000) / 1000
    )


class ConstantGuide:
    """Gives every pair the same score, so no negative is excluded, and counts the pairs."""

    def __init__(self) -> None:
        self.pairs = 0

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        self.pairs += sum(map(len, documents))
        return [[0.5] * len(part) for part in documents]


class Lookup(nn.Module):
    """A model whose parameters are the embeddings: token id to vector."""

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
    """Features for a Lookup; each position of the batch has its own vector."""
    rows = len(columns[0])
    return [
        {
            "input_ids": torch.arange(rows)[:, None] + column * rows,
            "attention_mask": torch.ones(rows, 1, dtype=torch.long),
            "texts": list(texts),
        }
        for column, texts in enumerate(columns)
    ]


def reference_loss(
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
    """The loss computed row by row, without a cache, scoring each pair separately."""

    def score(query: str, document: str) -> float:
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
        own = score(anchor[i], positive[i])
        limit = own - (abs(own) * margin if relative else margin)
        sides = [(0, column) for column in range(1, len(columns))]
        sides += [(0, 0)] * anchors + [(1, 1)] * positives
        logits = [cosine(embeddings[0][i], embeddings[1][i])]
        for left, right in sides:
            for j, text in enumerate(columns[right]):
                if text not in related and not score(columns[left][i], text) > limit:
                    logits.append(cosine(embeddings[left][i], embeddings[right][j]))
        losses.append(-torch.log_softmax(torch.stack(logits) / temperature, 0)[0])
    return torch.stack(losses).mean()


def gradients(model: torch.nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def make_loss(
    columns: Sequence[Sequence[str]], guide: Any, *, optimized: bool = False, **options: Any
) -> tuple[RerankerCachedGISTEmbedLoss, torch.Tensor]:
    torch.manual_seed(0)
    vectors = torch.randn(len(columns) * len(columns[0]), 8)
    kind = OptimizedRerankerCachedGISTEmbedLoss if optimized else RerankerCachedGISTEmbedLoss
    loss = kind(lookup(vectors), guide, temperature=0.1, mini_batch_size=3, **options)
    return loss, vectors
