"""The two tiers with a real Redis: servers share scores and wait for each other's scoring."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from serve_app.telemetry import to_json
from tests.redis_server import RedisServer
from tests.serve_app.fakes import INFO
from tests.serve_app.service.cache.servers import serving
from tests.waiting import until


def claims(server: RedisServer) -> int:
    """Return how often servers have asked for locks on pairs, which takes a script."""
    calls: int = server.client().info("commandstats")["cmdstat_eval"]["calls"]
    return calls


async def test_scores_of_one_server_are_found_by_another(server: RedisServer) -> None:
    async with serving(server.url, server.url) as (one, two):
        documents = ["a", "a b", "x", *(f"c {i}" for i in range(2500))]
        expected = await one.logits(*documents)
        await until(lambda: one.count("written") == len(documents))
        assert await two.logits(*documents) == expected
        assert (two.backend.rows, two.count("hits")) == (0, len(documents))
        # The scores are in memory now, so Redis is not read again.
        assert await two.logits(*documents) == expected
        assert two.count("hits") + two.count("misses") == len(documents)
        report = to_json(two.service._telemetry.snapshot(shared=two.store.shared_stats()))
        assert (report["cache"]["hits"], report["cache"]["shared_hits"]) == (5006, 2503)
        assert report["shared_store"]["hits"] == 2503


async def test_listwise_scores_are_shared_for_whole_requests(server: RedisServer) -> None:
    async with serving(server.url, server.url) as (one, two):
        for each in (one, two):
            each.backend.info_ = replace(INFO, listwise=True)
        expected = await one.logits("a", "a b", "x")
        await until(lambda: one.count("written") == 3)
        assert await two.logits("a", "a b", "x") == expected
        assert two.backend.rows == 0
        server.client().delete(server.client().keys()[0])
        async with serving(server.url) as (three,):
            three.backend.info_ = replace(INFO, listwise=True)
            assert await three.logits("a", "a b", "x") == expected
            assert three.backend.rows == 3  # a listwise score is invalid without the others


@pytest.mark.parametrize("listwise", [False, True])
async def test_two_servers_with_the_same_pairs_score_them_once(
    server: RedisServer, listwise: bool
) -> None:
    async with serving(server.url, server.url, wait_s=5) as (one, two):
        for each in (one, two):
            each.backend.info_ = replace(INFO, listwise=listwise)
        one.backend.gate.clear()
        first = asyncio.create_task(one.logits("a", "b", "a b"))
        await until(lambda: one.backend.rows == 3)
        documents = ("a", "b", "a b") if listwise else ("a b", "new", "a")
        before = claims(server)
        second = asyncio.create_task(two.logits(*documents))
        await until(lambda: claims(server) > before)
        assert not second.done()
        one.backend.gate.set()
        assert await first == [1, 1, 2]
        assert await second == ([1, 1, 2] if listwise else [2, 0, 1])
        assert two.backend.rows == (0 if listwise else 1)
        assert two.count("awaited") == (3 if listwise else 2)
        await until(lambda: not list(server.client().scan_iter(b"*:lock")))


async def test_a_server_scores_itself_after_waiting_wait_s_for_another(
    server: RedisServer,
) -> None:
    async with serving(server.url, server.url, wait_s=0.3) as (one, two):
        one.backend.gate.clear()
        first = asyncio.create_task(one.logits("a"))
        await until(lambda: one.backend.rows == 1)
        started = time.perf_counter()
        assert await two.logits("a") == [1]
        assert 0.25 < time.perf_counter() - started < 1.5
        assert two.backend.rows == 1
        one.backend.gate.set()
        await first


async def test_a_cancelled_request_releases_its_locks(server: RedisServer) -> None:
    async with serving(server.url, server.url, wait_s=20) as (one, two):
        one.backend.gate.clear()
        first = asyncio.create_task(one.logits("a"))
        await until(lambda: one.backend.rows == 1)
        before = claims(server)
        second = asyncio.create_task(two.logits("a"))
        await until(lambda: claims(server) > before)
        first.cancel()
        assert await asyncio.wait_for(second, 5) == [1]
        assert two.backend.rows == 1
