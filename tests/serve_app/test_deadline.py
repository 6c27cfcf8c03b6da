"""A deadline's way: from the client's header into the queue, the flights and the replica."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace

import pytest

from serve_app.deadline import Deadline, positive, timeout_s, within
from serve_app.dialects import ROUTES
from serve_app.errors import DeadlineExceeded, InvalidRequest, Overloaded
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


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-request-timeout-ms": "1500"}, 1.5),
        ({"grpc-timeout": "100m"}, 0.1),
        ({"grpc-timeout": "2S", "x-request-timeout-ms": "300"}, 0.3),
        ({"x-envoy-expected-rq-timeout-ms": "250"}, 0.25),
        ({"x-envoy-expected-rq-timeout-ms": "0", "grpc-timeout": "soon"}, None),
        ({"x-stainless-read-timeout": "60.0"}, 60.0),
        ({"x-stainless-read-timeout": "not-given"}, None),
    ],
)
def test_what_clients_and_proxies_send(headers: dict[str, str], seconds: float | None) -> None:
    assert timeout_s(headers) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "1e3", "٣", "9" * 30, "soon"])
def test_a_wrong_header_of_our_own(text: str) -> None:
    with pytest.raises(InvalidRequest, match="x-request-timeout-ms"):
        timeout_s({"x-request-timeout-ms": text})
    with pytest.raises(InvalidRequest):
        positive(float("nan"))


async def test_what_is_late_is_not_begun_and_what_runs_is_cancelled() -> None:
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


async def test_a_request_leaves_the_queue_when_its_time_is_up() -> None:
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


async def test_the_replica_is_told_how_long_somebody_waits() -> None:
    backend = WordOverlap()
    service = make_service(backend, worker_timeout_s=4)
    await service.rerank(soon(2))
    await service.rerank(RerankRequest("c", ("c",)))
    assert 1.5 < backend.timeouts[0] <= 2 < 3.5 < backend.timeouts[1] <= 4


async def test_one_whose_time_is_up_takes_nobodys_scores_along() -> None:
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


async def test_a_chunk_that_the_replica_drops_for_the_first_is_asked_for_again() -> None:
    backend = WordOverlap()
    # What a replica answers when the time that it was told is up.
    backend.failures = [DeadlineExceeded("a chunk")]
    service = make_service(backend, max_retries=0)
    assert (await service.rerank(soon(2))).results
    backend.failures = [DeadlineExceeded("a chunk")]
    with pytest.raises(DeadlineExceeded):
        await service.rerank(soon(0))


@pytest.mark.parametrize("path", ROUTES)
async def test_every_format_says_that_time_is_up_and_when_to_come_again(path: str) -> None:
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
    assert front.backend.cancelled == len(front.backend.timeouts)  # what began is cancelled


async def test_too_many_at_once_are_refused_unread() -> None:
    front = FakeFrontend()
    front.max_in_flight = 0
    async with front.client() as client:
        answer = await client.post("/v1/rerank", content=b"not even JSON")
        health = await client.get("/health")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert health.status_code == 200


async def test_a_refusal_says_how_long_the_queue_takes() -> None:
    backend = WordOverlap()
    service = make_service(backend, max_parallel=2)
    admission = service._admission
    admission._note(10.0)
    backend.gate.clear()
    tasks = [asyncio.create_task(service.rerank(RerankRequest("q", (f"{i}",)))) for i in range(6)]
    await settle()
    with pytest.raises(Overloaded) as refusal:
        await service.rerank(RerankRequest("q", ("x",)))
    assert refusal.value.retry_after_s == 25  # four wait and this one, two at a time, 10 s each
    admission._note(1000.0)
    assert admission.retry_after_s == 30
    backend.gate.set()
    started = time.perf_counter()
    await asyncio.gather(*tasks)
    assert time.perf_counter() - started < 5
