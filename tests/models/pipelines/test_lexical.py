"""BM25, checked against bm25s."""

from __future__ import annotations

import bm25s
import pytest

from models.pipelines.lexical import bm25


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


@pytest.mark.parametrize("chars", [1, 2, 7])
def test_long_documents_are_tokenized_in_pieces_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, chars: int
) -> None:
    documents = ["ΟΔΟΣ Σ. the panda's, it_em; 猫は魚を食べるsushi!! ", "", "a panda", "...", "魚魚"]
    query = "panda's οδος 魚 sushi the"
    whole = bm25(query, documents)
    monkeypatch.setattr("models.text.PIECE_CHARS", chars)
    assert bm25(query, documents) == whole


@pytest.mark.parametrize(("query", "documents"), [("q", [""]), ("the", ["the"]), ("?", ["a b"])])
def test_bm25_without_shared_words_is_zero(query: str, documents: list[str]) -> None:
    assert bm25(query, documents) == [0.0]
