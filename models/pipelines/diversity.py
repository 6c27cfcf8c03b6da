"""Maximal marginal relevance: Carbonell and Goldstein, "The Use of MMR, Diversity-Based Reranking
for Reordering Documents and Producing Summaries" (SIGIR 1998)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.vectors import Vectors


def mmr(
    relevance: npt.ArrayLike, vectors: Vectors, trade: float, count: int
) -> list[tuple[int, float]]:
    """The best `count` documents, each with the value that it was chosen for.

    `relevance` [documents], in [0, 1]; `vectors` [documents, hidden], of any length. A value is
    trade * relevance - (1 - trade) * the largest cosine to a document chosen before; `trade` is
    the paper's λ, and 1 is relevance alone. Cosines below 0 count as 0, so that values never rise
    from one choice to the next. Equal values: the earlier document.
    """
    relevant = np.asarray(relevance, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    nearest = np.zeros(len(relevant))
    left = np.ones(len(relevant), dtype=bool)
    chosen: list[tuple[int, float]] = []
    for _ in range(min(count, len(relevant))):
        values = np.where(left, trade * relevant - (1 - trade) * nearest, -np.inf)
        best = int(np.argmax(values))
        chosen.append((best, float(values[best])))
        left[best] = False
        np.maximum(nearest, units @ units[best], out=nearest)
    return chosen


def unit_scale(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Scores of any scale as [0, 1]: the lowest 0, the highest 1; all 1 where all are equal."""
    values = np.asarray(scores, dtype=np.float64)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.ones_like(values)
