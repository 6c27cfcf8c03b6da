"""Scripted servers for the async client: documents are numbers, or answers come in turn."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from serve_app.client import AsyncReranker, Retry, TokenUsageTracker

Handler = Callable[[dict[str, Any]], httpx.Response]
FAST = Retry(base_s=0.001, cap_s=0.002)


class Server:
    """A server whose documents are numbers, their own scores; it counts concurrent requests.

    It has no route for several queries.
    """

    def __init__(self, fail: Handler | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[httpx.Headers] = []
        self.active = self.max_active = 0
        self._fail = fail

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/rerank":
            return httpx.Response(404)
        body = json.loads(request.content)
        self.bodies.append(body)
        self.headers.append(request.headers)
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        await asyncio.sleep(0.002)
        self.active -= 1
        if self._fail is not None and (failure := self._fail(body)):
            return failure
        ranked = sorted(
            ({"index": i, "score": float(d)} for i, d in enumerate(body["documents"])),
            key=lambda hit: -hit["score"],
        )[: body.get("top_k")]
        tokens = len(body["documents"])
        return httpx.Response(
            200, json={"results": ranked, "model": "m", "usage": {"total_tokens": tokens}}
        )

    def client(self, **options: Any) -> AsyncReranker:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        tracker = options.pop("tracker", TokenUsageTracker())
        return AsyncReranker("http://test", client=http, retry=FAST, tracker=tracker, **options)


def fail_on_13(body: dict[str, Any]) -> httpx.Response | None:
    if "13" not in body["documents"]:
        return None
    error = {"code": "scoring_failed", "message": "no usable score", "param": None}
    return httpx.Response(500, json={"error": error}, headers={"x-request-id": "r-1"})


Entry = dict[str, Any]


class BatchServer:
    """A server whose documents are numbers, their own scores; `fail` can override an answer."""

    def __init__(self, fail: Callable[[str, int], Entry | httpx.Response | None]) -> None:
        self.paths: list[str] = []
        self.queries: list[list[str]] = []
        self._fail = fail

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.paths.append(request.url.path)
        if request.url.path == "/rerank":
            return self._answer([body["query"]], body, alone=True)
        queries = [entry["query"] for entry in body["queries"]]
        self.queries.append(queries)
        return self._answer(queries, body)

    def _answer(self, queries: list[str], body: Entry, alone: bool = False) -> httpx.Response:
        answers: list[Entry] = []
        for i, query in enumerate(queries):
            problem = self._fail(query, len(self.paths))
            if isinstance(problem, httpx.Response):
                return problem
            documents = body.get("documents") or body["queries"][i]["documents"]
            hits = [{"index": j, "score": float(d)} for j, d in enumerate(documents)]
            good = {"results": hits, "model": "m", "usage": {"total_tokens": len(hits)}}
            answers.append({"index": i, **(problem or good)})
        return httpx.Response(200, json=answers[0] if alone else {"answers": answers})

    def client(self, **options: Any) -> AsyncReranker:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        options = {"tracker": TokenUsageTracker(), "retry": FAST, **options}
        return AsyncReranker("http://test", client=http, **options)


def no_failure(query: str, attempt: int) -> None:
    return None


OK = {"results": [{"index": 0, "relevance_score": 0.5}]}


def scripted(*answers: Any, retry: Retry = FAST, **options: Any) -> tuple[AsyncReranker, list[Any]]:
    """Create a client whose requests get `answers` in turn: responses or exceptions."""
    waiting, requests = list(answers), []

    def handler(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        response: httpx.Response = answer
        return response

    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    options = {"tracker": TokenUsageTracker(), **options}
    return AsyncReranker("http://test/v1/", client=http, retry=retry, **options), requests


def ok(**fields: Any) -> httpx.Response:
    return httpx.Response(200, json={**OK, **fields})
