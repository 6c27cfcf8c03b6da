"""Measures of a ranking with one right answer. A rank counts from 1; None is not found."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Rank = int | None


def reciprocal_rank(rank: Rank, cutoff: int = 10) -> float:
    """1/rank within the cutoff, else 0; its mean over queries is MRR@cutoff."""
    return 1.0 / rank if rank is not None and rank <= cutoff else 0.0


def ndcg(rank: Rank, cutoff: int = 10) -> float:
    """With one right answer the ideal gain is 1, so nDCG is 1/log2(rank + 1)."""
    return 1.0 / math.log2(rank + 1) if rank is not None and rank <= cutoff else 0.0


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def bootstrap_interval(
    differences: Sequence[float], seed: int, samples: int = 2000
) -> tuple[float, float]:
    """95% interval of the mean of paired differences (percentile bootstrap)."""
    values = np.asarray(differences, dtype=float)
    picks = np.random.default_rng(seed).integers(0, len(values), (samples, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
