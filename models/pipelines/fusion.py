"""Reciprocal rank fusion: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms
Condorcet and individual Rank Learning Methods" (SIGIR 2009)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

# The paper's constant.
K = 60

T = TypeVar("T", bound=Hashable)


def rrf(rankings: Iterable[Sequence[T]], k: int = K) -> dict[T, float]:
    """Each item's sum of 1 / (k + rank) over the rankings that contain it; ranks start at 1."""
    scores: dict[T, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (k + rank)
    return scores
