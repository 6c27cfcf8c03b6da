"""Reciprocal rank fusion, checked against the formula."""

from __future__ import annotations

import pytest

from models.pipelines.fusion import rrf


def test_rrf_follows_the_papers_formula() -> None:
    scores = rrf([["a", "b", "c"], ["c", "a"]], 60)
    assert scores == pytest.approx({"a": 1 / 61 + 1 / 62, "b": 1 / 62, "c": 1 / 63 + 1 / 61})
    assert rrf([["a"]], k=1) == {"a": 0.5}
