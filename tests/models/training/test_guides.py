"""Guides score every pair, in requests of limited size, or raise a clear error."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from models.registry import load
from models.training import FunctionGuide, GuideError, HandleGuide, HTTPGuide, ScorerGuide
from models.types import ModelSpec, relevance
from serve_app.api.dialects import NATIVE, Limits
from serve_app.deployments.ingress import Ingress
from tests.models.checkpoints import tiny_bert_cross_encoder
from tests.serve_app.fakes import FakeFrontend
from tests.word_overlap import shared_words

QUERIES = ["pandas eat bamboo", "stock prices"]
DOCUMENTS = [["pandas sleep", "pandas eat", "rain", "bamboo"], ["prices of stock", "rain"]]
WORDS = [[1.0, 2.0, 0.0, 1.0], [2.0, 0.0]]


class Loop:
    """The service without Ray, on an event loop in a thread, for blocking clients."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.frontend = self.run(self._make())
        self.client = self.frontend.client()
        self.bodies: list[Any] = []

    async def _make(self) -> FakeFrontend:
        return FakeFrontend()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def answer(self, request: httpx.Request) -> httpx.Response:
        answer = self.run(
            self.client.post(
                request.url.path,
                content=request.read(),
                headers={"content-type": "application/json"},
            )
        )
        return httpx.Response(answer.status_code, content=answer.content)


@pytest.fixture
def service() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.stop()


def over(answer: Any, **options: Any) -> HTTPGuide:
    return HTTPGuide("http://service/", transport=httpx.MockTransport(answer), **options)


def scored(body: dict[str, Any]) -> httpx.Response:
    hits = [{"index": i, "score": float(len(d))} for i, d in enumerate(body["documents"])]
    return httpx.Response(200, json={"results": hits[::-1]})


def test_http_guide_scores_through_the_service(service: Loop) -> None:
    guide = over(service.answer, documents_per_request=3)
    assert guide.score(QUERIES, DOCUMENTS) == WORDS
    assert service.frontend.backend.rows == 6
    # In the next epoch the score store has all scores.
    assert guide.score(QUERIES[::-1], DOCUMENTS[::-1]) == WORDS[::-1]
    assert service.frontend.backend.rows == 6


def test_http_guide_sends_the_options_and_the_key() -> None:
    bodies: list[dict[str, Any]] = []
    heads: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body: dict[str, Any] = json.loads(request.content)
        bodies.append(body)
        heads.append(request.headers)
        return scored(body)

    guide = over(answer, model="m", raw=False, api_key="k", documents_per_request=2)
    assert guide.score(["q"], [["a", "bb", "ccc"]]) == [[1.0, 2.0, 3.0]]
    assert sorted(len(body["documents"]) for body in bodies) == [1, 2]
    assert {k: v for k, v in bodies[0].items() if k not in ("query", "documents")} == {
        "model": "m",
        "raw_scores": False,
        "return_documents": False,
        "sort": False,
        "priority": 500,
    }
    assert heads[0]["authorization"] == "Bearer k"


def test_http_guide_limits_concurrent_requests() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return scored(json.loads(request.content))

    guide = over(answer, concurrency=3, documents_per_request=1)
    assert guide.score(["q"], [["a"] * 12]) == [[1.0] * 12]
    assert 1 < most <= 3


def test_http_guide_retries_when_the_service_is_busy() -> None:
    answers = [429, 503]

    def answer(request: httpx.Request) -> httpx.Response:
        if answers:
            return httpx.Response(answers.pop(), headers={"retry-after": "0"})
        return scored(json.loads(request.content))

    assert over(answer).score(["q"], [["a"]]) == [[1.0]]
    assert answers == []


def refuses(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda r: httpx.Response(401, text="no such key"), "returned 401: no such key"),
        (lambda r: httpx.Response(429, text="full"), "returned 429: full"),
        (lambda r: httpx.Response(200, text="<html>"), "unknown format"),
        (lambda r: httpx.Response(200, json=[1]), "unknown format"),
        (lambda r: httpx.Response(200, json={"results": []}), "0 scores for 2 documents"),
        (
            lambda r: httpx.Response(200, json={"results": [{"index": 0, "score": 1}] * 2}),
            "2 scores for 2 documents, not one per document",
        ),
        (refuses, "connection refused.*rerank up"),
    ],
)
def test_http_guide_raises_an_error_without_usable_scores(answer: Any, message: str) -> None:
    with pytest.raises(GuideError, match=message):
        over(answer, retries=0).score(["q"], [["a", "b"]])


class Handle:
    """Behaves like a Ray handle of the application, without Ray."""

    def __init__(self, service: Loop) -> None:
        self.service = service
        self.pending = self.most = 0
        self.rerank = self
        self.error: Exception | None = None

    def remote(self, query: str, documents: list[str], **fields: Any) -> Any:
        signature = inspect.signature(Ingress.func_or_class.rerank)
        signature.bind(None, query, documents, **fields)
        body = {"query": query, "documents": documents, **fields}
        self.pending += 1
        self.most = max(self.most, self.pending)
        return SimpleNamespace(result=lambda timeout_s: self.result(body))

    def result(self, body: dict[str, Any]) -> Any:
        self.pending -= 1
        if self.error:
            raise self.error
        return self.service.run(self.service.frontend.service.rerank(NATIVE.parse(body, Limits())))


def test_handle_guide_scores_through_a_ray_handle(service: Loop) -> None:
    handle = Handle(service)
    guide = HandleGuide(handle, concurrency=2, documents_per_request=1)
    assert guide.score(QUERIES, DOCUMENTS) == WORDS
    assert handle.most == 2
    handle.error = TimeoutError()
    with pytest.raises(GuideError, match="Ray handle returned no scores: TimeoutError"):
        guide.score(QUERIES, DOCUMENTS)


def test_scorer_guide_matches_the_scorer(tmp_path: Path) -> None:
    path = tiny_bert_cross_encoder(tmp_path / "ce")
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    expected = [
        [s.logit for s in scorer.score(q, d)] for q, d in zip(QUERIES, DOCUMENTS, strict=True)
    ]
    for pairs in (1, 3, 100):
        found = ScorerGuide(scorer, pairs_per_forward=pairs).score(QUERIES, DOCUMENTS)
        assert [len(row) for row in found] == [4, 2]
        assert [*found[0], *found[1]] == pytest.approx([*expected[0], *expected[1]], abs=1e-4)
    shown = ScorerGuide(scorer, raw=False).score(QUERIES[:1], DOCUMENTS[:1])[0]
    assert shown == pytest.approx([relevance(s, "sigmoid") for s in expected[0]], abs=1e-4)


def test_scorer_guide_raises_an_error_for_a_broken_model(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(tiny_bert_cross_encoder(tmp_path / "c", nan=True))))
    with pytest.raises(GuideError, match="m"):
        ScorerGuide(scorer).score(["q"], [["d"]])


def test_scorer_guide_rejects_a_listwise_model() -> None:
    scorer: Any = SimpleNamespace(info=SimpleNamespace(listwise=True, name="lists"))
    with pytest.raises(ValueError, match="lists is listwise"):
        ScorerGuide(scorer)


def test_function_guide_scores_with_a_function() -> None:
    def shared(pairs: list[tuple[str, str]]) -> Sequence[float]:
        return [float(shared_words(q, d)) for q, d in pairs]

    assert FunctionGuide(shared).score(QUERIES, DOCUMENTS) == WORDS
    with pytest.raises(GuideError, match="returned 1 scores for 6 pairs"):
        FunctionGuide(lambda pairs: [1.0]).score(QUERIES, DOCUMENTS)


@pytest.mark.parametrize("field", ["concurrency", "documents_per_request"])
def test_request_limits_must_be_positive(field: str) -> None:
    options: dict[str, Any] = {field: 0}
    with pytest.raises(ValueError, match=f"{field} must be at least 1"):
        HTTPGuide("http://service", **options)
    with pytest.raises(ValueError, match=f"{field} must be at least 1"):
        HandleGuide(None, **options)
