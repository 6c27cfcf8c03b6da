"""A request's way through store, dedupe, scatter and ranking, over a backend that counts rows."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.images import ImageDocument, ImageError
from models.types import Document, ScoreOptions, ScoringError
from serve_app.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelUnavailable,
    Overloaded,
    QueueTimeout,
    ScoringFailed,
    UnknownModel,
)
from serve_app.types import RerankRequest
from tests.serve_app.fakes import INFO, WordOverlap, make_service
from tests.waiting import settle, until


def ask(*documents: Document, query: str = "a b c", **fields: object) -> RerankRequest:
    return RerankRequest(query, documents, **fields)  # type: ignore[arg-type]


async def test_ranks_by_score_and_equal_ones_by_index() -> None:
    result = await make_service(WordOverlap()).rerank(ask("a", "x", "a b", "b"))
    assert [r.index for r in result.results] == [2, 0, 3, 1]
    assert result.results[0].document == "a b"
    assert result.tokens == 5


@given(st.lists(st.text("abcx ", max_size=6), min_size=1, max_size=40), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_every_ranking_is_sorted_and_cut_at_top_n(documents: list[str], top_n: int) -> None:
    service = make_service(WordOverlap())
    result = asyncio.run(service.rerank(ask(*documents, top_n=top_n)))
    keys = [(-r.logit, r.index) for r in result.results]
    assert keys == sorted(keys)
    assert len(keys) == min(top_n, len(documents)) == len({r.index for r in result.results})


async def test_same_documents_and_known_pairs_cost_no_row() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    known = [f"d {i}" for i in range(90)]
    await service.rerank(ask(*known, *known))
    assert backend.rows == 90
    result = await service.rerank(ask(*known, *(f"new {i}" for i in range(10))))
    assert backend.rows == 100
    assert result.cached_tokens == 180


async def test_two_requests_at_once_cost_one_row_a_pair() -> None:
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


async def test_a_client_that_goes_away_takes_nobodys_answer_along() -> None:
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


async def test_work_that_nobody_waits_for_is_cancelled_and_can_be_asked_again() -> None:
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


async def test_a_failing_replica_is_tried_again_then_given_up() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    backend.failures = [ConnectionError("gone")]
    assert (await service.rerank(ask("a"))).results
    backend.failures = [ConnectionError("gone")] * 2
    with pytest.raises(ModelUnavailable):
        await service.rerank(ask("b"))
    backend.failures = [ScoringError("words gave NaN")]
    with pytest.raises(ScoringFailed, match="words gave NaN"):
        await service.rerank(ask("c"))
    assert (await service.rerank(ask("c"))).results


async def test_a_replica_that_hangs_ends_in_a_deadline() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await make_service(backend, worker_timeout_s=0.05).rerank(ask("a"))
    assert backend.cancelled == 1


async def test_the_queue_is_bounded_in_length_and_time() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend, max_parallel=1)
    tasks = [asyncio.create_task(service.rerank(ask(str(i)))) for i in range(6)]
    await until(lambda: sum(task.done() for task in tasks) == 5)
    backend.gate.set()
    kinds = [type(r).__name__ for r in await asyncio.gather(*tasks, return_exceptions=True)]
    assert kinds == ["RerankResult", *[QueueTimeout.__name__] * 4, Overloaded.__name__]


async def test_cached_answers_need_no_slot() -> None:
    backend = WordOverlap()
    service = make_service(backend, max_parallel=1)
    await service.rerank(ask("known"))
    backend.gate.clear()
    busy = asyncio.create_task(service.rerank(ask("new")))
    await settle()
    assert (await service.rerank(ask("known"))).cached_tokens == 1
    backend.gate.set()
    await busy


async def test_large_requests_are_cut_in_chunks_and_come_back_in_order() -> None:
    documents = [f"a {i} " + "x " * (i % 50) for i in range(3000)]
    result = await make_service(WordOverlap()).rerank(ask(*documents))
    assert [r.index for r in result.results] == list(range(3000))


async def test_refusals() -> None:
    service = make_service(WordOverlap())
    with pytest.raises(UnknownModel, match="words"):
        await service.rerank(ask("a", model="other"))
    with pytest.raises(InvalidRequest):
        await service.rerank(ask("a", query="\x00 \x07"))
    assert (await service.rerank(ask("a", model="rerank-v3.5"))).model == "words"


async def test_what_a_request_asks_reaches_the_model_and_parts_the_cache() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    asked = ScoreOptions(max_tokens_per_doc=3, long_document="max_passage")
    await service.rerank(ask("a"))
    await service.rerank(ask("a", options=asked))
    await service.rerank(ask("a", options=asked))
    assert backend.options == [ScoreOptions(), asked]


async def test_an_instruction_needs_a_model_that_takes_one() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    request = ask("a", options=ScoreOptions(instruction="find cats"))
    with pytest.raises(InvalidRequest, match="takes no instruction"):
        await service.rerank(request)
    backend.info_ = replace(INFO, takes_instruction=True)
    assert (await service.rerank(request)).results[0].index == 0


async def test_a_listwise_model_sees_the_whole_request_in_its_order() -> None:
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


async def test_images_need_a_model_that_reads_them_and_are_kept_by_pair() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    image = ImageDocument("data:image/png;base64,AAAA", "a")
    with pytest.raises(InvalidRequest, match="reads text alone"):
        await service.rerank(ask(image))
    backend.info_ = replace(INFO, takes_images=True)
    backend.failures = [ImageError("an image is none of PNG")]
    with pytest.raises(InvalidRequest, match="an image is none of PNG"):
        await service.rerank(ask(image))
    await service.rerank(ask(image, image, "a"))
    assert backend.rows == 2
    await service.rerank(ask(image))
    assert backend.rows == 2
