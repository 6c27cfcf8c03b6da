"""How sure a mean, and a difference of two means, is.

Method: Smucker, Allan, Carterette, "A Comparison of Statistical Significance Tests for
Information Retrieval Evaluation", CIKM 2007: Fisher's randomization test over paired queries,
with the t-test in close agreement. Several comparisons: Holm, "A Simple Sequentially Rejective
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
# Numbers held at once while resampling: 80 MB.
HELD = 10_000_000
# Differences of sums of floats that stand for none.
NONE = 1e-12


@dataclass(frozen=True, slots=True)
class Comparison:
    """One ranker against the baseline, by one measure.

    `difference`: mean over queries of ranker less baseline, `low` and `high` its 95% interval.
    `p` is two-sided; `p_holm` takes the other rankers compared by this measure into account.
    `wins`, `ties`, `losses` count queries.
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
    """95% interval of the mean (percentile bootstrap); of one value, the value."""
    if len(values) < 2:
        return values[0], values[0]
    found = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        n_resamples=samples,
        batch=max(1, HELD // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def p_value(differences: Sequence[float], test: Test, seed: int) -> float:
    """Two-sided p of the mean of paired differences being zero; 1 where all are zero.

    Exact while all 2^n signs are no more than the resamples.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or not (np.abs(values) > NONE).any():
        return 1.0
    if test == "t-test":
        if np.ptp(values) <= NONE:
            return 0.0
        return float(stats.ttest_1samp(values, 0.0).pvalue)
    found = stats.permutation_test(
        (values,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, HELD // len(values)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def _mean(values: Any, axis: int) -> Any:
    return np.mean(values, axis=axis)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order of `ps`."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for place, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - place) * ps[i]))
        adjusted[i] = highest
    return adjusted


def compare(
    baseline: str, values: Mapping[str, Sequence[float]], measure: str, test: Test, seed: int
) -> list[Comparison]:
    """Every other ranker of `values` (by name, a value a query) against the baseline."""
    others = [name for name in values if name != baseline]
    base = np.asarray(values[baseline], dtype=float)
    gains = [np.asarray(values[name], dtype=float) - base for name in others]
    ps = [p_value(list(gain), test, seed) for gain in gains]
    found = []
    for name, gain, p, p_holm in zip(others, gains, ps, holm(ps), strict=True):
        low, high = bootstrap_interval(list(gain), seed)
        wins, losses = int((gain > NONE).sum()), int((gain < -NONE).sum())
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
