"""Two services that share one Redis, started as a user would start them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import kill, start
from tests.redis_server import RedisServer

DOCUMENTS = ["Pandas strip bamboo with their teeth.", "Stock prices fell.", "Bears sleep."]


def _ask(url: str, query: str = "how do pandas eat?") -> dict[str, Any]:
    body = {"query": query, "documents": DOCUMENTS}
    answer = httpx.post(f"{url}/v1/rerank", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _until(url: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        figures: dict[str, Any] = httpx.get(f"{url}/metrics", timeout=60).json()
        if met(figures):
            return figures
        assert time.monotonic() < deadline, figures
        time.sleep(0.2)


@pytest.mark.slow
def test_a_second_service_finds_the_scores_of_the_first(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    settings = {
        "REDIS_ENABLED": "true",
        "REDIS_URL": redis.url,
        "REDIS_READ_TIMEOUT_MS": "500",
        "CACHE_TTL_SECONDS": "0.5",
    }
    one = start(tmp_path / "one", **settings)
    try:
        first = _ask(one.url)
        _until(one.url, lambda f: f["shared_store"]["written"] == 3)
        # A new query with the same documents, whose representations are cached.
        _ask(one.url, "who sleeps?")
        _until(one.url, lambda f: any(m["hits"] == 3 for m in f["representations"].values()))
        two = start(tmp_path / "two", **settings)
        try:
            assert _ask(two.url)["results"] == first["results"]
            seen = _until(two.url, lambda f: f["cache"]["shared_hits"] == 3)
            assert seen["cache"]["misses"] == 0
            redis.kill()
            time.sleep(0.6)
            assert _ask(two.url)["results"] == first["results"]
            seen = _until(two.url, lambda f: f["shared_store"]["errors"] > 0)
            assert seen["failed_requests"] == 0
        finally:
            kill(two)
    finally:
        kill(one)
        redis.kill()
