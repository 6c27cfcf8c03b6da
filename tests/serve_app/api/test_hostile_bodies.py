"""Bodies that are made to be slow: each takes linear time and gets an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.serve_app.fakes import FakeFrontend

# CPU time that no body of this size may take. A quadratic step takes minutes.
SLOWEST_S = 5.0
N = 200_000
ACUTE, GRAVE_BELOW = "\u0301", "\u0316"
SPANS = {"relevant_spans": {"mode": "enabled"}}


def one(document: Any, **more: Any) -> bytes:
    return orjson.dumps({"query": "q", "documents": [document], **more})


def batch(queries: int, *documents: Any, query: Any = "q", **more: Any) -> bytes:
    return orjson.dumps({"queries": [query] * queries, "documents": documents, **more})


RERANK: dict[str, Callable[[], bytes]] = {
    "marks of alternating classes": lambda: one("a" + (ACUTE + GRAVE_BELOW) * N),
    "marks in reverse order": lambda: one("a" + ACUTE * N + GRAVE_BELOW * N),
    "marks that decompose": lambda: one("\u0f73\u0f71" * N),
    "marks in the query": lambda: orjson.dumps(
        {"query": "a" + (ACUTE + GRAVE_BELOW) * 49_000, "documents": ["a"]}
    ),
    "full stops": lambda: one("." * N, **SPANS),
    "full stops, then spaces": lambda: one("." * N + " " * N + "a", **SPANS),
    "full stops, then quotes": lambda: one("." * N + '"' * N, **SPANS),
    "sentences": lambda: one("A. " * N, **SPANS),
    "stages": lambda: one("a", pipeline=[{"bad": 1}] * N),
    "fields of a stage": lambda: one("a", pipeline=[{"rerank": "a", **numbered(N)}]),
    "fused models": lambda: one("a", pipeline=[{"fuse": [1] * N}]),
    "fields of a document": lambda: one({"text": "a", **numbered(N)}),
    "lists in a document": lambda: one({"text": "a", "more": [[]] * N}),
    "rank_fields": lambda: one({"a": "b"}, rank_fields=["x"] * N),
    "digits": lambda: b'{"query":"\\ud800","documents":["a"],"n":%s}' % (b"9" * N),
    "nesting": lambda: b'{"query":"\\ud800","documents":%s' % (b"[" * N),
    "type of an image": lambda: one({"image": "data:image/" + "a" * N}),
}
BATCH: dict[str, Callable[[], bytes]] = {
    "many documents, one of them wrong": lambda: batch(10_000, *["a"] * 9_999, 1),
    "a long list in a document": lambda: batch(1_000, {"text": "a", "more": [1] * N}),
    "a long text in another field": lambda: batch(1_000, {"a": "x" * N}, rank_fields=["a"]),
    "a long field name": lambda: batch(5_000, {"a": 1}, rank_fields=["x" * N]),
    "many rank_fields": lambda: batch(5_000, {"a": 1}, rank_fields=["x"] * N),
    "many other fields": lambda: batch(1_000, "a", query={"query": "q"}, **numbered(50_000)),
    "many stages": lambda: batch(1_000, "a", query={"query": "q"}, pipeline=[{"bad": 1}] * N),
    "a long document": lambda: batch(1_000, "x" * 10 * N),
    "long metadata": lambda: batch(1_000, {"text": "a", "metadata": "x" * 10 * N}),
    "the type of an image": lambda: batch(
        5_000, "a", query={"query": "q"}, query_image_url="data:image/" + "a" * 10 * N
    ),
}


def numbered(count: int) -> dict[str, int]:
    return {f"field{i}": i for i in range(count)}


@pytest.mark.parametrize(
    ("path", "make"),
    [
        *(pytest.param("/rerank", make, id=name) for name, make in RERANK.items()),
        *(pytest.param("/rerank/batch", make, id=f"batch: {n}") for n, make in BATCH.items()),
    ],
)
async def test_a_hostile_body_is_answered_in_linear_time(
    path: str, make: Callable[[], bytes]
) -> None:
    body = make()
    front = FakeFrontend()
    started = time.process_time()
    async with front.client() as client:
        answer = await client.post(path, content=body)
    assert time.process_time() - started < SLOWEST_S
    assert answer.status_code < 500
    # 5,000 errors of 2,000 characters are the most.
    assert len(answer.content) < max(2 * len(body), 12_000_000)
