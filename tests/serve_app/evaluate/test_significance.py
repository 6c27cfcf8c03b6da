"""Significance tests and intervals, checked against calculations by hand."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serve_app.evaluate.significance import bootstrap_interval, compare, holm, p_value


def test_the_randomization_test_matches_full_enumeration() -> None:
    gains = [0.3, 0.1, 0.2, -0.1, 0.4]
    sums = [
        sum(sign * gain for sign, gain in zip(signs, gains, strict=True))
        for signs in itertools.product((1, -1), repeat=len(gains))
    ]
    as_extreme = sum(abs(value) >= sum(gains) - 1e-9 for value in sums)
    assert p_value(gains, "randomization", 0) == pytest.approx(as_extreme / 2 ** len(gains))


def test_both_tests_agree_on_many_queries() -> None:
    rng = random.Random(0)
    gains = [rng.gauss(0.02, 0.2) for _ in range(300)]
    randomization = p_value(gains, "randomization", 0)
    assert p_value(gains, "t-test", 0) == pytest.approx(stats.ttest_rel(gains, [0] * 300).pvalue)
    assert randomization == pytest.approx(p_value(gains, "t-test", 0), abs=0.02)
    assert p_value(gains, "randomization", 0) == randomization


def test_no_difference_is_not_significant() -> None:
    for test in ("randomization", "t-test"):
        assert p_value([0.0] * 30, test, 0) == 1.0
        assert p_value([0.5], test, 0) == 1.0


def test_random_differences_are_rarely_significant() -> None:
    rng = random.Random(1)
    ps = [p_value([rng.gauss(0, 1) for _ in range(9)], "randomization", 0) for _ in range(100)]
    assert 1 <= sum(p < 0.05 for p in ps) <= 14


def test_holms_correction_matches_calculations_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_interval_lies_within_the_observed_range(differences: list[float]) -> None:
    low, high = bootstrap_interval(differences, 0, samples=200)
    assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9


def test_a_comparison_has_differences_and_wins() -> None:
    values = {"base": [0.0, 0.5, 1.0, 0.2], "same": [0.0, 0.5, 1.0, 0.2], "up": [1, 1, 0.5, 0.2]}
    same, up = compare("base", values, "P@1", "randomization", 0)
    assert (same.difference, same.low, same.high, same.p, same.p_holm) == (0, 0, 0, 1, 1)
    assert (up.name, up.baseline, up.measure) == ("up", "base", "P@1")
    assert up.difference == pytest.approx(0.25)
    assert (up.wins, up.ties, up.losses) == (2, 1, 1)
    assert up.p_holm == min(1.0, 2 * up.p)
