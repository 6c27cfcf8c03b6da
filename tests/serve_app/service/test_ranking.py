"""Ranking: by score, ties by index, at most top_n results."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from models.types import Score
from serve_app.service.ranking import rank_documents
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
