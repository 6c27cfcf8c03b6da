"""The wire format of several queries in one request."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from serve_app.client import AsyncReranker, BadAnswer, TokenUsageTracker
from tests.serve_app.client.scripted_servers import FAST


async def test_shared_documents_are_sent_once() -> None:
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        hits = [{"index": 0, "score": 1.0}]
        return httpx.Response(
            200, json={"answers": [{"index": i, "results": hits} for i in (0, 1)]}
        )

    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    client = AsyncReranker("http://test", client=http, tracker=TokenUsageTracker())
    await client.batch([("a", ["1", "2"]), ("b", ["1", "2"])], top_k=1, instruction="i")
    (body,) = bodies
    own = {"top_k": 1, "instruction": "i"}
    assert body["queries"] == [{"query": "a", **own}, {"query": "b", **own}]
    assert body["documents"] == ["1", "2"]


@pytest.mark.parametrize(
    "answers",
    [[], [{"index": 1, "results": []}, {"index": 0, "results": []}], [{"index": 0}], "none"],
)
async def test_an_invalid_response_is_a_bad_answer(answers: Any) -> None:
    http = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"answers": answers}))
    )
    client = AsyncReranker("http://test", client=http, retry=FAST, tracker=TokenUsageTracker())
    with pytest.raises(BadAnswer):
        await client.batch([("a", ["1"]), ("b", ["1"])])
