"""BM25 as the first stage."""

from __future__ import annotations

import pytest

from serve_app.evaluate.bm25 import Bm25
from serve_app.evaluate.dataset import EvalError


def test_bm25_returns_only_documents_that_share_a_word() -> None:
    index = Bm25([("a", "pandas eat bamboo"), ("b", "stocks fell"), ("c", "bamboo grows")])
    assert [name for name, _ in index.search("what bamboo pandas like", 5)] == ["a", "c"]
    assert index.search("nothing known", 5) == []
    assert [score > 0 for score in index.scores("bamboo", ["b", "c"])] == [False, True]
    with pytest.raises(EvalError, match="duplicate document 'a'"):
        Bm25([("a", "one word"), ("a", "another")])
    with pytest.raises(EvalError, match="no words"):
        Bm25([("a", "…"), ("b", "the")])
