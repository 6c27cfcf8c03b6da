"""Fusion, diversity and BM25, checked against formulas and other implementations."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from models.pipelines.diversity import mmr, unit_scale
from models.pipelines.fusion import rrf
from models.pipelines.lexical import bm25


def test_rrf_follows_the_papers_formula() -> None:
    scores = rrf([["a", "b", "c"], ["c", "a"]], 60)
    assert scores == pytest.approx({"a": 1 / 61 + 1 / 62, "b": 1 / 62, "c": 1 / 63 + 1 / 61})
    assert rrf([["a"]], k=1) == {"a": 0.5}


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


def test_bm25_matches_bm25s() -> None:
    documents = ["The panda eats bamboo and bamboo.", "Stocks fell.", "A panda sleeps.", ""]
    index = bm25s.BM25()
    index.index(bm25s.tokenize(documents, show_progress=False), show_progress=False)
    tokens = bm25s.tokenize("panda bamboo?", return_ids=False, show_progress=False)[0]
    expected = index.get_scores(tokens)
    assert bm25("panda bamboo?", documents) == pytest.approx(expected.tolist())
    assert bm25("panda bamboo, unknown", documents) == pytest.approx(expected.tolist())


def test_bm25_finds_words_in_scripts_without_spaces() -> None:
    scores = bm25("猫は何を食べる", ["猫は魚を食べる。", "Stock prices fell."])
    assert scores[0] > 0
    assert scores[1] == 0


@pytest.mark.parametrize(("query", "documents"), [("q", [""]), ("the", ["the"]), ("?", ["a b"])])
def test_bm25_without_shared_words_is_zero(query: str, documents: list[str]) -> None:
    assert bm25(query, documents) == [0.0]
