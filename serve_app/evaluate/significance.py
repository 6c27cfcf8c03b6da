"""Confidence intervals of means, and significance of differences between rankers.

Tests: Fisher's randomization test over paired queries, or the t-test, which closely agrees;
Smucker, Allan, Carterette, "A Comparison of Statistical Significance Tests for Information
Retrieval Evaluation", CIKM 2007. Multiple comparisons: Holm, "A Simple Sequentially Rejective
Multiple Test Procedure", Scandinavian Journal of Statistics 6 (1979). Intervals: percentile
bootstrap over queries, Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), ch. 13.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

Test = Literal["randomization", "t-test"]
RESAMPLES = 10_000
# Maximum number of values in memory while resampling (80 MB).
MAX_VALUES = 10_000_000
# Smaller differences are rounding errors.
TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ranker compared with the baseline by one metric.

    `difference` is the mean over queries of ranker minus baseline; `low` and `high` are its 95%
    interval. `p` is two-sided; `p_holm` is corrected for the number of rankers compared by this
    metric. `wins`, `ties` and `losses` count queries.
    """

    name: str
    baseline: str
    measure: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int


def bootstrap_interval(
    values: Sequence[float], seed: int, samples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the mean's 95% interval (percentile bootstrap); for one value, the value itself."""
    if len(values) < 2:
        return values[0], values[0]
    found = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=samples,
        batch=max(1, MAX_VALUES // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def p_value(differences: Sequence[float], test: Test, seed: int) -> float:
    """Return the two-sided p value for paired differences of mean zero; 1 if all are zero.

    The randomization test is exact if the 2^n sign combinations do not exceed the resamples.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or not (np.abs(values) > TOLERANCE).any():
        return 1.0
    if test == "t-test":
        if np.ptp(values) <= TOLERANCE:
            return 0.0
        return float(stats.ttest_1samp(values, 0.0).pvalue)
    found = stats.permutation_test(
        (values,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, MAX_VALUES // len(values)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _mean(values: Any, axis: int) -> Any:
    return np.mean(values, axis=axis)


def holm(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the order of `ps`."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def compare(
    baseline: str, values: Mapping[str, Sequence[float]], measure: str, test: Test, seed: int
) -> list[Comparison]:
    """Compare every other ranker with the baseline; `values` has one value per query."""
    others = [name for name in values if name != baseline]
    base = np.asarray(values[baseline], dtype=float)
    gains = [np.asarray(values[name], dtype=float) - base for name in others]
    ps = [p_value(list(gain), test, seed) for gain in gains]
    found = []
    for name, gain, p, p_holm in zip(others, gains, ps, holm(ps), strict=True):
        low, high = bootstrap_interval(list(gain), seed)
        wins, losses = int((gain > TOLERANCE).sum()), int((gain < -TOLERANCE).sum())
        ties = len(gain) - wins - losses
        found.append(
            Comparison(
                name,
                baseline,
                measure,
                float(gain.mean()),
                low,
                high,
                p,
                p_holm,
                wins,
                ties,
                losses,
            )
        )
    return found
