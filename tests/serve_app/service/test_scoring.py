"""Scoring: each pair is scored once, by one replica, and cached."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from models.types import Score, ScoreOptions
from serve_app.service.retries import OtherRevision
from serve_app.service.scoring import PARALLEL_CHUNKS
from serve_app.types import RerankRequest
from tests.serve_app.fakes import INFO, WordOverlap, ask, make_service, named
from tests.waiting import settle, until


async def test_duplicate_and_cached_pairs_are_not_scored_again() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    known = [f"d {i}" for i in range(90)]
    await service.rerank(ask(*known, *known))
    assert backend.rows == 90
    result = await service.rerank(ask(*known, *(f"new {i}" for i in range(10))))
    assert backend.rows == 100
    assert result.cached_tokens == 180


async def test_concurrent_requests_score_a_common_pair_once() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend)
    first = asyncio.create_task(service.rerank(ask("a", "b")))
    second = asyncio.create_task(service.rerank(ask("b", "z")))
    await settle()
    backend.gate.set()
    results = await asyncio.gather(first, second)
    assert backend.rows == 3
    assert [r.index for r in results[1].results] == [0, 1]


async def test_cancelling_a_request_does_not_affect_others_with_the_same_pair() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend)
    first = asyncio.create_task(service.rerank(ask("a")))
    await settle()
    second = asyncio.create_task(service.rerank(ask("a")))
    await settle()
    first.cancel()
    await settle()
    backend.gate.set()
    assert (await second).results[0].logit == 1
    assert (backend.rows, backend.cancelled) == (1, 0)


async def test_scoring_is_cancelled_with_its_last_request_and_can_be_repeated() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend)
    task = asyncio.create_task(service.rerank(ask("a")))
    await settle()
    task.cancel()
    await settle()
    backend.gate.set()
    assert (await service.rerank(ask("a"))).results[0].logit == 1
    assert backend.cancelled == 1


async def test_cached_results_need_no_slot() -> None:
    backend = WordOverlap()
    service = make_service(backend, max_parallel=1)
    await service.rerank(ask("known"))
    backend.gate.clear()
    busy = asyncio.create_task(service.rerank(ask("new")))
    await settle()
    assert (await service.rerank(ask("known"))).cached_tokens == 1
    backend.gate.set()
    await busy


async def test_results_of_a_chunked_request_are_in_order() -> None:
    documents = [f"a {i} " + "x " * (i % 50) for i in range(3000)]
    result = await make_service(WordOverlap()).rerank(ask(*documents))
    assert [r.index for r in result.results] == list(range(3000))


async def test_options_reach_the_model_and_are_part_of_the_cache_key() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    asked = ScoreOptions(max_tokens_per_doc=3, long_document="max_passage")
    await service.rerank(ask("a"))
    await service.rerank(ask("a", options=asked))
    await service.rerank(ask("a", options=asked))
    assert backend.options == [ScoreOptions(), asked]


async def test_a_listwise_model_gets_all_documents_in_their_order() -> None:
    backend = WordOverlap()
    backend.info_ = replace(INFO, listwise=True)
    service = make_service(backend)
    documents = [f"{'long ' * 300}{i}" for i in range(300)] + ["a"] * 2
    await service.rerank(ask(*documents))
    assert (backend.rows, len(backend.options)) == (302, 1)
    await service.rerank(ask(*documents))
    assert backend.rows == 302
    await service.rerank(ask(*documents[1:]))
    assert backend.rows == 302 + 301


async def test_pairs_scored_while_a_request_was_queued_are_not_scored_again() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend, max_parallel=1)
    tasks = [
        asyncio.create_task(service.rerank(ask("a", "b", "a b", query="a b"))) for _ in range(4)
    ]
    await settle()
    backend.gate.set()
    results = await asyncio.gather(*tasks)
    assert backend.rows == 3
    assert sorted(r.cached_tokens for r in results) == [0, 4, 4, 4]


async def test_a_model_that_splits_requests_itself_gets_them_whole() -> None:
    backend = named("words", whole_requests=True)
    await make_service(backend).rerank(RerankRequest("a", tuple(f"a {i}" for i in range(500))))
    assert (backend.rows, len(backend.options)) == (500, 1)


class Replaced(WordOverlap):
    """A model of which some replicas run other weights; `learn` is called during each call."""

    other = False

    async def score(self, *args: Any, **options: Any) -> list[Score]:
        scores = await super().score(*args, **options)
        self.learn()
        return OtherRevision(scores) if self.other else scores

    def learn(self) -> None:
        pass


async def test_scores_of_other_weights_are_returned_and_not_stored() -> None:
    backend = Replaced()
    service = make_service(backend)
    backend.other = True
    for rows in (2, 4):
        result = await service.rerank(ask("a", "a b"))
        assert [r.logit for r in result.results] == [2, 1]
        assert backend.rows == rows
    backend.other = False
    for _ in range(2):
        await service.rerank(ask("a", "a b"))
        assert backend.rows == 6


async def test_scores_are_not_stored_if_the_model_is_replaced_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = Replaced()
    service = make_service(backend)

    def learn() -> None:
        backend.info_ = replace(INFO, revision="2")

    monkeypatch.setattr(backend, "learn", learn)
    await service.rerank(ask("a"))
    backend.info_ = INFO  # the old weights are back
    await service.rerank(ask("a"))
    assert backend.rows == 2


async def test_a_large_request_has_a_limited_number_of_calls_in_flight() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    documents = [f"a {i} " + "x " * 500 for i in range(500)]
    ranking = asyncio.create_task(make_service(backend).rerank(ask(*documents)))
    await until(lambda: len(backend.timeouts) == PARALLEL_CHUNKS)
    await settle()
    assert len(backend.timeouts) == PARALLEL_CHUNKS
    backend.gate.set()
    assert len((await ranking).results) == 500
    assert len(backend.timeouts) > PARALLEL_CHUNKS
