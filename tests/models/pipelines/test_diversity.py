"""MMR, checked against a calculation by hand and LangChain's implementation."""

from __future__ import annotations

import numpy as np
import pytest
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from models.pipelines.diversity import mmr, unit_scale


def test_mmr_matches_a_calculation_by_hand() -> None:
    vectors = np.array([[1, 0], [2, 0], [0, 1]], dtype=np.float32)  # 0 and 1 are parallel
    chosen = mmr([0.9, 0.8, 0.5], vectors, 0.5, 3)
    assert [i for i, _ in chosen] == [0, 2, 1]
    assert [value for _, value in chosen] == pytest.approx([0.45, 0.25, 0.4 - 0.5])
    assert [i for i, _ in mmr([0.9, 0.8, 0.5], vectors, 1.0, 2)] == [0, 1]
    zeros = np.zeros((2, 2), dtype=np.float32)
    assert mmr([0.1, 0.2], zeros, 0.5, 9) == [(1, pytest.approx(0.1)), (0, pytest.approx(0.05))]


@pytest.mark.parametrize("relevance_weight", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_mmr_selects_the_same_documents_as_langchain(relevance_weight: float) -> None:
    rng = np.random.default_rng(0)
    # Without negative cosines, which langchain does not count as 0.
    vectors = rng.random((40, 8)).astype(np.float32)
    query = rng.random(8).astype(np.float32)
    relevance = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    expected = maximal_marginal_relevance(query, vectors.tolist(), relevance_weight, k=15)
    # With λ = 0 the first selection is arbitrary; langchain takes the most relevant.
    if relevance_weight > 0:
        assert [i for i, _ in mmr(relevance, vectors, relevance_weight, 15)] == expected


@pytest.mark.parametrize("relevance_weight", [0.0, 0.4, 1.0])
def test_mmr_values_never_increase(relevance_weight: float) -> None:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 4)).astype(np.float32)
    values = [value for _, value in mmr(rng.random(60), vectors, relevance_weight, 60)]
    assert values == sorted(values, reverse=True)


def test_scores_are_scaled_to_the_unit_interval() -> None:
    assert unit_scale([3.0, -1.0, 1.0]).tolist() == [1.0, 0.0, 0.5]
    assert unit_scale([2.0, 2.0]).tolist() == [1.0, 1.0]
