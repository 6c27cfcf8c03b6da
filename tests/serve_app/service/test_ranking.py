"""Ranking: by score, ties by index, at most top_n results."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.images import ImageDocument
from models.types import Document, Score, ScoreOptions
from serve_app.service.cache import PairKeys
from serve_app.service.ranking import LARGE_CHARS, document_keys, query_keys, rank_documents
from serve_app.types import RerankRequest
from tests.serve_app.fakes import INFO, WordOverlap, ask, make_service


async def test_results_are_ordered_by_score_and_ties_by_index() -> None:
    result = await make_service(WordOverlap()).rerank(ask("a", "x", "a b", "b"))
    assert [r.index for r in result.results] == [2, 0, 3, 1]
    assert result.results[0].document == "a b"
    assert result.tokens == 5


@given(st.lists(st.text("abcx ", max_size=6), min_size=1, max_size=40), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_every_ranking_is_sorted_and_limited_to_top_n(documents: list[str], top_n: int) -> None:
    service = make_service(WordOverlap())
    result = asyncio.run(service.rerank(ask(*documents, top_n=top_n)))
    keys = [(-r.logit, r.index) for r in result.results]
    assert keys == sorted(keys)
    assert len(keys) == min(top_n, len(documents)) == len({r.index for r in result.results})


async def test_without_sort_the_best_results_keep_the_documents_order() -> None:
    request = RerankRequest("q", ("a", "b", "c"), top_n=2, sort=False)
    ranked = await rank_documents(INFO, [Score(1, 1), Score(0, 1), Score(2, 1)], request)
    assert [(r.index, r.logit) for r in ranked] == [(0, 1), (2, 2)]


async def test_results_have_the_documents_as_the_client_sent_them() -> None:
    request = RerankRequest("q", ("a",), originals=({"text": "a", "id": 1},))
    (ranked,) = await rank_documents(INFO, [Score(1, 1)], request)
    assert ranked.document == {"text": "a", "id": 1}


@pytest.mark.parametrize("listwise", [False, True])
@pytest.mark.parametrize(
    ("document", "cleaned_in_thread", "hashed_in_thread"),
    [
        ("a" * (LARGE_CHARS + 1), True, True),
        ("a", False, False),
        (ImageDocument("data:image/png;base64," + "A" * LARGE_CHARS, "a"), False, True),
    ],
)
async def test_large_documents_are_cleaned_and_hashed_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
    listwise: bool,
    document: Document,
    cleaned_in_thread: bool,
    hashed_in_thread: bool,
) -> None:
    loop = threading.get_ident()
    seen: dict[str, bool] = {}

    def clean(text: str) -> str:
        seen["clean"] = threading.get_ident() != loop
        return text

    def noting(method: Any) -> Any:
        def hashed(*args: Any) -> Any:
            seen["hash"] = threading.get_ident() != loop
            return method(*args)

        return hashed

    monkeypatch.setattr(PairKeys, "of", noting(PairKeys.of))
    monkeypatch.setattr(PairKeys, "all", noting(PairKeys.all))
    info = replace(INFO, listwise=listwise)
    keys = await query_keys(info, "q", ScoreOptions())
    order, by_key = await document_keys(info, keys, [document], clean)
    assert list(by_key) == order
    assert seen == {"clean": cleaned_in_thread, "hash": hashed_in_thread}
