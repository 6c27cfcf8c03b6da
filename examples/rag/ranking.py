"""Putting several rankings together, and choosing passages that don't repeat each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from examples.rag.protocols import Vectors

# The usual constant of reciprocal rank fusion: how little the very first ranks stand out.
RANK_OFFSET = 60


def fuse(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Ids by reciprocal rank fusion: high in one ranking, or fair in several."""
    scores: defaultdict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, id in enumerate(ranking, 1):
            scores[id] += 1 / (RANK_OFFSET + rank)
    return sorted(scores, key=lambda id: -scores[id])


def diversify(
    scores: Sequence[float], vectors: Vectors, count: int, relevance: float = 0.7
) -> list[int]:
    """Indices by maximal marginal relevance, best first.

    `vectors` [scores, dimensions] have length 1. `relevance` is its share in the choice; the
    rest is unlikeness to what is chosen already. Scores are put on [0, 1] for that.
    """
    if not scores:
        return []
    values = np.asarray(scores, np.float64)
    spread = float(values.max() - values.min()) or 1.0
    values = (values - values.min()) / spread
    likeness = vectors @ vectors.T
    chosen = [int(values.argmax())]
    while len(chosen) < min(count, len(values)):
        gain = relevance * values - (1 - relevance) * likeness[:, chosen].max(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen
