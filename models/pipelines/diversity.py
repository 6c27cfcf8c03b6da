"""Maximal marginal relevance: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking
for Reordering Documents and Producing Summaries" (SIGIR 1998)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.vectors import Vectors


def mmr(
    relevance: npt.ArrayLike, vectors: Vectors, relevance_weight: float, count: int
) -> list[tuple[int, float]]:
    """Select `count` documents; returns each one's index and the value that it was selected for.

    `relevance` [documents], in [0, 1]; `vectors` [documents, hidden], of any norm. With λ, the
    paper's name for `relevance_weight`, the value is λ * relevance - (1 - λ) * the largest cosine
    with a document selected before; λ = 1 is relevance only. Negative cosines count as 0, so values
    never increase from one selection to the next. On a tie, the earlier document is selected.
    """
    relevant = np.asarray(relevance, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    redundancy = np.zeros(len(relevant))
    remaining = np.ones(len(relevant), dtype=bool)
    selected: list[tuple[int, float]] = []
    for _ in range(min(count, len(relevant))):
        values = relevance_weight * relevant - (1 - relevance_weight) * redundancy
        values[~remaining] = -np.inf
        best = int(np.argmax(values))
        selected.append((best, float(values[best])))
        remaining[best] = False
        np.maximum(redundancy, units @ units[best], out=redundancy)
    return selected


def unit_scale(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Scale scores linearly to [0, 1]: the lowest is 0, the highest 1; equal scores are all 1."""
    values = np.asarray(scores, dtype=np.float64)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.ones_like(values)
