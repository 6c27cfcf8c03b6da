"""Fuse several rankings, and choose passages that don't repeat each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from examples.rag.protocols import Vectors

# The usual constant of reciprocal rank fusion; larger values favour the first ranks less.
RANK_OFFSET = 60


def fuse(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Order ids by reciprocal rank fusion: high in one ranking, or moderate in several."""
    scores: defaultdict[str, float] = defaultdict(float)
    for ranking in rankings:
        for rank, id in enumerate(ranking, 1):
            scores[id] += 1 / (RANK_OFFSET + rank)
    return sorted(scores, key=lambda id: -scores[id])


def diversify(
    scores: Sequence[float], vectors: Vectors, count: int, relevance: float = 0.7
) -> list[int]:
    """Choose indices by maximal marginal relevance, best first.

    `vectors` [scores, dimensions] are unit vectors. `relevance` is the weight of the scores,
    scaled to [0, 1]; the rest is the penalty for similarity to those already chosen.
    """
    if not scores:
        return []
    values = np.asarray(scores, np.float64)
    spread = float(values.max() - values.min()) or 1.0
    values = (values - values.min()) / spread
    similarity = vectors @ vectors.T
    chosen = [int(values.argmax())]
    while len(chosen) < min(count, len(values)):
        gain = relevance * values - (1 - relevance) * similarity[:, chosen].max(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen
