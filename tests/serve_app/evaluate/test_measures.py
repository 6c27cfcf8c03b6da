"""Metrics, checked against calculations by hand."""

from __future__ import annotations

import itertools
import math

import pytest

from serve_app.evaluate import measures
from serve_app.evaluate.dataset import EvalError

QRELS = {"q1": {"a": 2, "b": 1, "c": 0, "z": 1}, "q2": {"a": 1}}
RUN = {"q1": [("c", 0.5), ("a", 0.5), ("b", 0.1)]}


def test_metrics_match_calculations_by_hand() -> None:
    wanted = measures.parse(["nDCG@10", "MRR@10", "Recall@2", "MAP", "P@1", "Success@2"])
    found = measures.per_query(wanted, QRELS, RUN)
    dcg = 2 / math.log2(3) + 1 / math.log2(4)
    ideal = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    # The second query is missing from the run and counts as 0.
    assert {name: values[1] for name, values in found.items()} == dict.fromkeys(found, 0.0)
    assert {name: round(values[0], 9) for name, values in found.items()} == {
        "nDCG@10": round(dcg / ideal, 9),
        "RR@10": 0.5,
        "R@2": round(1 / 3, 9),
        "AP": round((1 / 2 + 2 / 3) / 3, 9),
        "P@1": 0.0,
        "Success@2": 1.0,
    }


def test_equal_scores_keep_the_order_of_the_run() -> None:
    wanted = measures.parse(["RR@10"])
    for order in itertools.permutations("abc"):
        run = {"q": [(name, 1.0) for name in order]}
        found = measures.per_query(wanted, {"q": {"b": 1}}, run)
        assert found["RR@10"] == [1 / (order.index("b") + 1)]


@pytest.mark.parametrize("name", ["Quality@10", "nDCG@ten", "__import__('os')", "", "alpha_nDCG@5"])
def test_unknown_metrics_are_rejected(name: str) -> None:
    with pytest.raises(EvalError, match="is not an available metric"):
        measures.parse([name])
