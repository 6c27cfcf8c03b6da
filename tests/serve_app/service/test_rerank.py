"""The service as a whole: model names, refusals and the queue."""

from __future__ import annotations

import asyncio

import pytest

from serve_app.errors import (
    InvalidRequest,
    Overloaded,
    QueueTimeout,
    UnknownModel,
)
from tests.serve_app.fakes import WordOverlap, ask, make_service
from tests.waiting import settle, until


async def test_the_queue_is_limited_in_length_and_time() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend, max_parallel=1)
    tasks = [asyncio.create_task(service.rerank(ask(str(i)))) for i in range(6)]
    await until(lambda: sum(task.done() for task in tasks) == 5)
    backend.gate.set()
    kinds = [type(r).__name__ for r in await asyncio.gather(*tasks, return_exceptions=True)]
    assert kinds == ["RerankResult", *[QueueTimeout.__name__] * 4, Overloaded.__name__]


async def test_unknown_models_and_empty_queries_are_refused_and_aliases_resolved() -> None:
    service = make_service(WordOverlap())
    with pytest.raises(UnknownModel, match="words"):
        await service.rerank(ask("a", model="other"))
    with pytest.raises(InvalidRequest):
        await service.rerank(ask("a", query="\x00 \x07"))
    assert (await service.rerank(ask("a", model="rerank-v3.5"))).model == "words"


async def test_the_queue_time_of_a_timed_out_request_is_recorded() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend, max_parallel=1)
    busy = asyncio.create_task(service.rerank(ask("a", "b", "a b", query="a b")))
    await settle()
    with pytest.raises(QueueTimeout):
        await service.rerank(ask("z", query="z"))
    backend.gate.set()
    await busy
    assert service._telemetry.snapshot().wait["words"].sum_s >= 0.15
