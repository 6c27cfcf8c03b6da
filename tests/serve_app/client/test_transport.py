"""Calls to a Ray handle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.client import AsyncReranker, TokenUsageTracker
from serve_app.errors import InvalidRequest, Overloaded
from tests.serve_app.client.scripted_servers import FAST


class FakeHandle:
    """The part of a DeploymentHandle that the client uses."""

    def __init__(self, *failures: Exception) -> None:
        self.rerank, self.failures = self, list(failures)
        self.requests: list[Any] = []

    async def remote(self, query: str, documents: list[Any], **fields: Any) -> Any:
        self.requests.append((query, documents, fields))
        if self.failures:
            raise self.failures.pop(0)
        hits = [
            SimpleNamespace(index=i, relevance_score=float(i), relevant_spans=())
            for i in range(len(documents))
        ]
        return SimpleNamespace(results=hits[::-1], model="m", tokens=5, truncated=(1,))


async def test_a_ray_handle_is_called_and_retried() -> None:
    class Wrapped(Exception):
        cause = Overloaded("full")

    Wrapped.cause.retry_after_s = None
    handle = FakeHandle(Wrapped(), RuntimeError("replica died"))
    client = AsyncReranker(handle, retry=FAST, tracker=TokenUsageTracker())
    found = await client.rerank("q", ["a", "b"], top_k=2, instruction="i")
    assert [hit.document for hit in found] == ["b", "a"]
    assert (found.tokens, len(found.warnings)) == (5, 1)
    assert handle.requests == [("q", ["a", "b"], {"top_n": 2, "instruction": "i"})] * 3
    client = AsyncReranker(FakeHandle(InvalidRequest("no")), track_tokens=False)
    with pytest.raises(InvalidRequest, match="no"):
        await client.rerank("q", ["a"])
