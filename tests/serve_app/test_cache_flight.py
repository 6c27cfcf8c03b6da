"""Pairs being scored are scored once: behind the queue, and when a replica cancels its call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from models.types import Score
from serve_app.cache import SingleFlight
from serve_app.deadline import Deadline
from serve_app.errors import ModelUnavailable, QueueTimeout
from serve_app.types import RerankRequest
from tests.serve_app.fakes import WordOverlap, make_service
from tests.waiting import settle

REQUEST = RerankRequest("a b", ("a", "b", "a b"))


async def test_a_failure_reaches_everyone_and_leaves_nothing_behind() -> None:
    flights = SingleFlight()

    async def fail(keys: object, until: Deadline) -> dict[bytes, Score]:
        await settle()
        raise ConnectionError("gone")

    async def work(keys: Sequence[bytes], until: Deadline) -> dict[bytes, Score]:
        return {key: Score(1, 1) for key in keys}

    outcomes = await asyncio.gather(
        *(flights.run([b"k"], fail) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(outcome, ConnectionError) for outcome in outcomes)
    assert await flights.run([b"k"], work) == ({b"k": Score(1, 1)}, 0)
    assert flights.landed == 2


async def test_what_was_scored_while_a_request_queued_is_not_scored_again() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend, max_parallel=1)
    tasks = [asyncio.create_task(service.rerank(REQUEST)) for _ in range(4)]
    await settle()
    backend.gate.set()
    results = await asyncio.gather(*tasks)
    assert backend.rows == 3
    assert sorted(r.cached_tokens for r in results) == [0, 4, 4, 4]


async def test_the_wait_of_a_request_that_timed_out_in_the_queue_counts() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend, max_parallel=1)
    busy = asyncio.create_task(service.rerank(REQUEST))
    await settle()
    with pytest.raises(QueueTimeout):
        await service.rerank(RerankRequest("z", ("z",)))
    backend.gate.set()
    await busy
    assert service._telemetry.snapshot().wait["words"].sum_s >= 0.15


async def test_a_call_that_the_replica_cancelled_is_tried_again() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    backend.failures = [asyncio.CancelledError()]  # type: ignore[list-item]
    assert (await service.rerank(REQUEST)).results[0].index == 2


async def test_no_pause_follows_the_last_try() -> None:
    backend = WordOverlap()
    backend.failures = [ConnectionError("gone")]
    started = time.perf_counter()
    with pytest.raises(ModelUnavailable):
        await make_service(backend, max_retries=0).rerank(REQUEST)
    assert time.perf_counter() - started < 0.08
