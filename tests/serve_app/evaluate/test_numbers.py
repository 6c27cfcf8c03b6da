"""Measures and significance, beside calculations by hand."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from serve_app.evaluate import measures
from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.significance import bootstrap_interval, compare, holm, p_value

QRELS = {"q1": {"a": 2, "b": 1, "c": 0, "z": 1}, "q2": {"a": 1}}
RUN = {"q1": [("c", 0.5), ("a", 0.5), ("b", 0.1)]}


def test_measures_by_hand() -> None:
    wanted = measures.parse(["nDCG@10", "MRR@10", "Recall@2", "MAP", "P@1", "Success@2"])
    found = measures.per_query(wanted, QRELS, RUN)
    dcg = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    # The second query is not ranked, and counts 0.
    assert {name: values[1] for name, values in found.items()} == dict.fromkeys(found, 0.0)
    assert {name: round(values[0], 9) for name, values in found.items()} == {
        "nDCG@10": round(dcg / ideal, 9),
        "RR@10": 0.5,
        "R@2": round(1 / 3, 9),
        "AP": round((1 / 2 + 2 / 3) / 3, 9),
        "P@1": 0.0,
        "Success@2": 1.0,
    }


def test_the_order_counts_where_scores_are_equal() -> None:
    wanted = measures.parse(["RR@10"])
    for order in itertools.permutations("abc"):
        run = {"q": [(name, 1.0) for name in order]}
        found = measures.per_query(wanted, {"q": {"b": 1}}, run)
        assert found["RR@10"] == [1 / (order.index("b") + 1)]


@pytest.mark.parametrize("name", ["Quality@10", "nDCG@ten", "__import__('os')", "", "alpha_nDCG@5"])
def test_what_is_no_measure(name: str) -> None:
    with pytest.raises(EvalError, match="is not a measure that can be computed here"):
        measures.parse([name])


def test_the_randomization_test_by_hand() -> None:
    gains = [0.3, 0.1, 0.2, -0.1, 0.4]
    sums = [
        sum(sign * gain for sign, gain in zip(signs, gains, strict=True))
        for signs in itertools.product((1, -1), repeat=len(gains))
    ]
    as_extreme = sum(abs(value) >= sum(gains) - 1e-9 for value in sums)
    assert p_value(gains, "randomization", 0) == pytest.approx(as_extreme / 2 ** len(gains))


def test_both_tests_agree_on_many_queries() -> None:
    chance = random.Random(0)
    gains = [chance.gauss(0.02, 0.2) for _ in range(300)]
    by_chance = p_value(gains, "randomization", 0)
    assert p_value(gains, "t-test", 0) == pytest.approx(stats.ttest_rel(gains, [0] * 300).pvalue)
    assert by_chance == pytest.approx(p_value(gains, "t-test", 0), abs=0.02)
    assert p_value(gains, "randomization", 0) == by_chance


def test_no_difference_is_no_finding() -> None:
    for test in ("randomization", "t-test"):
        assert p_value([0.0] * 30, test, 0) == 1.0
        assert p_value([0.5], test, 0) == 1.0


def test_chance_alone_is_seldom_significant() -> None:
    chance = random.Random(1)
    ps = [p_value([chance.gauss(0, 1) for _ in range(9)], "randomization", 0) for _ in range(100)]
    assert 1 <= sum(p < 0.05 for p in ps) <= 14


def test_holms_correction_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@settings(max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_interval_lies_within_what_was_seen(differences: list[float]) -> None:
    low, high = bootstrap_interval(differences, 0, samples=200)
    assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9


def test_a_comparison() -> None:
    values = {"base": [0.0, 0.5, 1.0, 0.2], "same": [0.0, 0.5, 1.0, 0.2], "up": [1, 1, 0.5, 0.2]}
    same, up = compare("base", values, "P@1", "randomization", 0)
    assert (same.difference, same.low, same.high, same.p, same.p_holm) == (0, 0, 0, 1, 1)
    assert (up.name, up.baseline, up.measure) == ("up", "base", "P@1")
    assert up.difference == pytest.approx(0.25)
    assert (up.wins, up.ties, up.losses) == (2, 1, 1)
    assert up.p_holm == min(1.0, 2 * up.p)
