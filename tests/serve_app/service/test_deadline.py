"""Deadlines: how the client's timeout reaches the queue, concurrent scoring and the replica."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest

from serve_app.api.dialects import ROUTES
from serve_app.errors import DeadlineExceeded, InvalidRequest
from serve_app.service.deadline import Deadline, check_timeout, within
from serve_app.types import RerankRequest
from tests.serve_app.fakes import FakeFrontend, WordOverlap, make_service
from tests.waiting import settle

REQUEST = RerankRequest("a b", ("a", "b", "a b"))
BODIES = {
    "/rerank/batch": {"queries": ["a"], "documents": ["a"]},
    "/score": {"text_1": "a", "text_2": ["a"]},
    "/v1/score": {"text_1": "a", "text_2": ["a"]},
    "/v1/ranking": {"query": {"text": "a"}, "passages": [{"text": "a"}]},
    "/v1/retrieval/{model:path}/reranking": {"query": {"text": "a"}, "passages": [{"text": "a"}]},
}


def soon(seconds: float, request: RerankRequest = REQUEST) -> RerankRequest:
    return replace(request, deadline=Deadline.after(seconds).at)


@pytest.mark.parametrize("timeout_s", [float("nan"), math.inf, 0, -1, True, "1"])
def test_a_timeout_must_be_a_finite_number_above_zero(timeout_s: Any) -> None:
    with pytest.raises(InvalidRequest, match="timeout_s must be a number of seconds above 0"):
        check_timeout(timeout_s)


async def test_within_cancels_running_work_and_does_not_start_late_work() -> None:
    begun = []
    with pytest.raises(DeadlineExceeded):
        async with within(Deadline.after(-1).at):
            begun.append(1)
    with pytest.raises(DeadlineExceeded):
        async with within(Deadline.after(0.01).at):
            await asyncio.sleep(5)
    with pytest.raises(TimeoutError):
        async with within(Deadline.after(5).at):
            raise TimeoutError
    async with within(math.inf):
        begun.append(2)
    assert begun == [2]


async def test_a_request_leaves_the_queue_at_its_deadline() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend, max_parallel=1)
    busy = asyncio.create_task(service.rerank(REQUEST))
    await settle()
    with pytest.raises(DeadlineExceeded):
        await service.rerank(soon(0.03, RerankRequest("z", ("z",))))
    assert service._admission.waiting == 0
    backend.gate.set()
    await busy
    assert backend.rows == 3


async def test_the_replica_gets_the_smaller_of_deadline_and_worker_timeout() -> None:
    backend = WordOverlap()
    service = make_service(backend, worker_timeout_s=4)
    await service.rerank(soon(2))
    await service.rerank(RerankRequest("c", ("c",)))
    assert 1.5 < backend.timeouts[0] <= 2 < 3.5 < backend.timeouts[1] <= 4


async def test_a_timed_out_request_does_not_affect_others_with_the_same_pairs() -> None:
    backend = WordOverlap()
    backend.gate.clear()
    service = make_service(backend)
    first = asyncio.create_task(service.rerank(soon(0.05)))
    second = asyncio.create_task(service.rerank(REQUEST))
    with pytest.raises(DeadlineExceeded):
        await first
    backend.gate.set()
    assert [hit.index for hit in (await second).results] == [2, 0, 1]
    assert (backend.rows, backend.cancelled) == (3, 0)


async def test_a_dropped_chunk_is_requested_again_if_somebody_still_waits() -> None:
    backend = WordOverlap()
    # A replica raises this when its timeout has passed.
    backend.failures = [DeadlineExceeded("a chunk")]
    service = make_service(backend, max_retries=0)
    assert (await service.rerank(soon(2))).results
    backend.failures = [DeadlineExceeded("a chunk")]
    with pytest.raises(DeadlineExceeded):
        await service.rerank(soon(0))


@pytest.mark.parametrize("path", ROUTES)
async def test_timeouts_and_full_queues_are_reported_in_every_format(path: str) -> None:
    front = FakeFrontend()
    front.backend.gate.clear()
    body = BODIES.get(path, {"query": "a", "documents": ["a"]})
    url = path.replace("{model:path}", "m")
    async with front.client() as client:
        late = await client.post(url, json=body, headers={"x-request-timeout-ms": "80"})
        wrong = await client.post(url, json=body, headers={"x-request-timeout-ms": "x"})
        front.service._admission.active = front.service._admission.max_parallel
        front.service._admission.max_queue = 0
        full = await client.post(url, json=body)
    if path == "/rerank/batch":
        assert [late.json()["answers"][0]["status"], full.json()["answers"][0]["status"]] == [
            504,
            429,
        ]
    else:
        assert (late.status_code, full.status_code) == (504, 429)
        assert full.headers["retry-after"] == "1"
    assert "x-request-timeout-ms" in wrong.text
    assert wrong.status_code in (400, 422)
    assert front.backend.cancelled == len(front.backend.timeouts)  # all calls cancelled


async def test_requests_above_max_in_flight_are_refused_without_reading_the_body() -> None:
    front = FakeFrontend()
    front.max_in_flight = 0
    async with front.client() as client:
        answer = await client.post("/v1/rerank", content=b"not even JSON")
        health = await client.get("/health")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert health.status_code == 200
