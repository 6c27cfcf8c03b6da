"""The shared tier on a real Redis: what one server scored another has, and no failure is felt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.types import Score
from serve_app.cache import MemoryStore
from serve_app.cache.redis import RedisStore
from serve_app.cache.tiered import TieredStore
from serve_app.cache.value import SIZE, pack
from serve_app.service import RerankService
from serve_app.telemetry import to_json
from serve_app.types import RerankRequest
from tests.redis_server import RedisServer
from tests.serve_app.fakes import INFO, WordOverlap, make_service

KEY = bytes(range(16))
SCORE = Score(-1.5, 7, True, 3)
# Redis is on this machine, but its processor is shared.
READ_S = 0.25


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path)
    yield running
    running.resume()
    running.kill()


class Server:
    """A service over memory and Redis, and the backend that it scores with."""

    def __init__(self, url: str, *, wait_s: float = 1.0, **options: Any) -> None:
        memory = MemoryStore(2**24, 60)
        options = {"read_s": READ_S, "version": "1", **options}
        self.redis = RedisStore(url, on_found=memory.put_many, **options)
        self.store = TieredStore(memory, self.redis, wait_s)
        self.backend = WordOverlap()
        self.service: RerankService = make_service(self.backend, store=self.store)

    async def logits(self, *documents: str, query: str = "a b c") -> list[float]:
        """Scores by the documents' order."""
        result = await self.service.rerank(RerankRequest(query, documents))
        return [r.logit for r in sorted(result.results, key=lambda r: r.index)]

    def count(self, what: str) -> int:
        return self.store.shared_stats().get(what, 0)


@asynccontextmanager
async def serving(*urls: str, **options: Any) -> AsyncIterator[list[Server]]:
    servers = [Server(url, **options) for url in urls]
    try:
        yield servers
    finally:
        for one in servers:
            await one.store.close()


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        now = condition()
        if now if isinstance(now, bool) else await now:
            return
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)


async def test_what_one_server_scored_another_has(server: RedisServer) -> None:
    async with serving(server.url, server.url) as (one, two):
        documents = ["a", "a b", "x", *(f"c {i}" for i in range(2500))]
        expected = await one.logits(*documents)
        await until(lambda: one.count("written") == len(documents))
        assert await two.logits(*documents) == expected
        assert (two.backend.rows, two.count("hits")) == (0, len(documents))
        # What was read is in memory now: Redis is not asked again.
        assert await two.logits(*documents) == expected
        assert two.count("hits") + two.count("misses") == len(documents)
        told = to_json(two.service._telemetry.snapshot(shared=two.store.shared_stats()))
        assert (told["cache"]["hits"], told["cache"]["shared_hits"]) == (5006, 2503)
        assert told["shared_store"]["hits"] == 2503


async def test_every_field_of_a_score_comes_back_and_expires(server: RedisServer) -> None:
    async with serving(server.url, ttl_s=0.4) as (one,):
        one.redis.put_many({KEY: SCORE})
        await until(lambda: one.count("written") == 1)
        assert await one.redis.get_many([KEY, b"other"]) == {KEY: SCORE}
        (name,) = server.client().keys()
        assert name == b"rerank:1:1:" + KEY
        assert 0 < server.client().pttl(name) <= 400
        assert server.client().strlen(name) == SIZE
        await until(lambda: not server.client().exists(name))
        assert await one.redis.get_many([KEY]) == {}


async def test_prefix_and_version_part_the_keys(server: RedisServer) -> None:
    async with serving(server.url) as (one,), serving(server.url, version="2") as (two,):
        one.redis.put_many({KEY: SCORE})
        await until(lambda: one.count("written") == 1)
        assert await two.redis.get_many([KEY]) == {}
        async with serving(server.url, prefix="other") as (three,):
            assert await three.redis.get_many([KEY]) == {}


async def test_a_listwise_models_scores_are_shared_by_request(server: RedisServer) -> None:
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
            assert three.backend.rows == 3  # one of them alone would mean nothing


@pytest.mark.parametrize("listwise", [False, True])
async def test_two_servers_asked_at_once_score_once(server: RedisServer, listwise: bool) -> None:
    async with serving(server.url, server.url, wait_s=5) as (one, two):
        for each in (one, two):
            each.backend.info_ = replace(INFO, listwise=listwise)
        one.backend.gate.clear()
        first = asyncio.create_task(one.logits("a", "b", "a b"))
        await until(lambda: one.backend.rows == 3)
        documents = ("a", "b", "a b") if listwise else ("a b", "new", "a")
        second = asyncio.create_task(two.logits(*documents))
        await asyncio.sleep(0.1)
        assert not second.done()
        one.backend.gate.set()
        assert await first == [1, 1, 2]
        assert await second == ([1, 1, 2] if listwise else [2, 0, 1])
        assert two.backend.rows == (0 if listwise else 1)
        assert two.count("awaited") == (3 if listwise else 2)
        await until(lambda: not list(server.client().scan_iter(b"*:lock")))


async def test_another_servers_scoring_is_not_waited_for_longer_than_is_set(
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


async def test_a_server_that_gives_up_leaves_no_lock(server: RedisServer) -> None:
    async with serving(server.url, server.url, wait_s=20) as (one, two):
        one.backend.gate.clear()
        first = asyncio.create_task(one.logits("a"))
        await until(lambda: one.backend.rows == 1)
        second = asyncio.create_task(two.logits("a"))
        await asyncio.sleep(0.1)
        first.cancel()
        assert await asyncio.wait_for(second, 5) == [1]
        assert two.backend.rows == 1


async def test_a_redis_that_hangs_costs_three_requests_a_moment_and_is_taken_back(
    server: RedisServer,
) -> None:
    async with serving(server.url, read_s=0.1) as (one,):
        await one.logits("a")
        server.pause()
        started = time.perf_counter()
        for i in range(40):
            assert await one.logits(f"a {i}") == [1]
        # Each of the first requests waits twice at most, to look up and to claim.
        assert time.perf_counter() - started < 1.5
        assert one.count("timeouts") == 3
        assert one.count("breaker_open") == 1
        assert one.count("skipped") >= 70
        server.resume()
        await until(lambda: _asked(one))
        assert one.count("breaker_open") == 0


async def _asked(one: Server) -> bool:
    """Whether a request's pair was looked up in Redis and written to it."""
    before = one.count("misses"), one.count("written")
    await one.logits(f"a {time.perf_counter()}")
    await asyncio.sleep(0.05)
    return one.count("misses") > before[0] and one.count("written") > before[1]


async def test_a_late_answer_is_not_taken_for_anothers(server: RedisServer) -> None:
    async with serving(server.url, read_s=0.1) as (one,):
        keys = [bytes([i]) * 16 for i in range(100)]
        one.redis.put_many({key: Score(float(i), 1) for i, key in enumerate(keys)})
        await until(lambda: one.count("written") == 100)
        server.pause()
        assert await one.redis.get_many(keys[:50]) == {}
        server.resume()
        found = await one.redis.get_many(keys[50:])
        assert found == {key: Score(float(i), 1) for i, key in enumerate(keys) if i >= 50}
        # The answer that came too late for its request serves the next one, from memory.
        await until(lambda: len(one.store.get_many(keys[:50])) == 50)


async def test_a_redis_that_died_and_one_that_came_back_empty(server: RedisServer) -> None:
    async with serving(server.url) as (one,):
        await one.logits("a")
        await until(lambda: one.count("written") == 1)
        server.kill()
        for i in range(20):
            assert await one.logits(f"a {i}") == [1]
        assert one.count("errors") >= 3
        assert one.count("breaker_open") == 1
        assert one.count("dropped") > 0
        server.start()
        await until(lambda: _asked(one))
        assert server.client().dbsize() > 0


async def test_a_restart_between_two_requests_fails_no_call(server: RedisServer) -> None:
    async with serving(server.url) as (one,):
        await one.logits("a")
        await until(lambda: one.count("written") == 1)
        server.kill()
        server.start()
        await one.logits("b")
        await until(lambda: one.count("written") == 2)
        assert (one.count("errors"), one.count("timeouts")) == (0, 0)


async def test_a_flushed_redis_is_filled_again(server: RedisServer) -> None:
    async with serving(server.url, server.url) as (one, two):
        await one.logits("a", "b")
        await until(lambda: one.count("written") == 2)
        server.client().flushall()
        assert await two.logits("a", "b") == [1, 1]
        await until(lambda: two.count("written") == 2)
        assert server.client().dbsize() == 2


async def test_a_full_redis_is_still_read(server: RedisServer) -> None:
    async with serving(server.url, server.url) as (one, two):
        await one.logits("known")
        await until(lambda: one.count("written") == 1)
        server.client().config_set("maxmemory-policy", "noeviction")
        server.client().config_set("maxmemory", "1")
        for i in range(20):
            assert await two.logits("known", f"a {i}") == [0, 1]
        assert two.count("hits") == 1
        assert two.count("refused") >= 3
        assert two.count("dropped") >= 15
        assert (two.count("breaker_open"), two.count("write_breaker_open")) == (0, 1)
        server.client().config_set("maxmemory", "0")
        await until(lambda: _asked(two))
        assert two.count("write_breaker_open") == 0


async def test_a_wrong_password_is_counted_and_not_told(
    tmp_path: Path, serve_log: pytest.LogCaptureFixture
) -> None:
    server = RedisServer(tmp_path, "--requirepass", "right")
    try:
        async with serving(f"redis://:wrong@127.0.0.1:{server.port}") as (one,):
            for i in range(10):
                assert await one.logits(f"a {i}") == [1]
            assert one.count("errors") >= 3
            assert (one.count("breaker_open"), one.count("written")) == (1, 0)
        assert "AuthenticationError" in serve_log.text
        assert "wrong@" not in serve_log.text
        async with serving(f"redis://:right@127.0.0.1:{server.port}") as (one,):
            await one.logits("a")
            await until(lambda: one.count("written") == 1)
    finally:
        server.kill()


async def test_what_is_no_score_is_scored_and_written_over(server: RedisServer) -> None:
    name = b"rerank:1:1:" + KEY
    own = pack(KEY, SCORE)
    assert own is not None
    foreign = pack(b"another pair's..", SCORE)
    nan = pack(KEY, Score(float("nan"), 1))
    damaged = own[:-1] + bytes([own[-1] ^ 1])
    for garbage in (b"", b"garbage", b"x" * SIZE, foreign, nan, damaged):
        async with serving(server.url) as (one,):
            server.client().set(name, garbage)
            assert await one.redis.get_many([KEY]) == {}
            assert one.count("unreadable") == 1
            assert await one.store.once([KEY], _score) == {KEY: SCORE}
            one.store.put_many({KEY: SCORE})
            await until(lambda: one.count("written") == 1)
            assert server.client().get(name) == own
    server.client().delete(name)
    server.client().lpush(name, "a list")
    async with serving(server.url) as (one,):
        assert await one.redis.get_many([KEY]) == {}
        one.redis.put_many({KEY: SCORE})
        await until(lambda: one.count("written") == 1)


async def _score(keys: object) -> dict[bytes, Score]:
    return {KEY: SCORE}


async def test_a_full_queue_drops_and_counts(server: RedisServer) -> None:
    async with serving(server.url, max_queue=10) as (one,):
        one.redis.put_many({bytes([i]) * 16: SCORE for i in range(25)})
        await until(lambda: one.count("written") == 10)
        assert one.count("dropped") == 15


async def test_what_is_queued_is_written_before_the_end(server: RedisServer) -> None:
    async with serving(server.url) as (one,):
        one.redis.put_many({KEY: SCORE})
    assert server.client().dbsize() == 1


async def test_a_cancelled_request_harms_no_other(server: RedisServer) -> None:
    async with serving(server.url, read_s=1) as (one,):
        server.pause()
        tasks = [asyncio.create_task(one.logits(f"a {i}")) for i in range(10)]
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        server.resume()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1::2] == [[1]] * 5
        assert await one.logits("a b") == [2]


def test_a_score_without_room_in_a_value_is_not_packed() -> None:
    assert pack(KEY, Score(1.0, 2**32)) is None
