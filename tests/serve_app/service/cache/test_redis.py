"""The shared tier with a real Redis: reads, writes, and every way that Redis can fail."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from models.types import Score
from serve_app.service.cache.packed_score import SIZE, pack
from tests.redis_server import RedisServer
from tests.serve_app.service.cache.servers import Server, serving
from tests.waiting import until

KEY = bytes(range(16))
SCORE = Score(-1.5, 7, True, 3)


async def test_every_field_of_a_score_is_stored_and_expires(server: RedisServer) -> None:
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


async def test_keys_differ_by_prefix_and_version(server: RedisServer) -> None:
    async with serving(server.url) as (one,), serving(server.url, version="2") as (two,):
        one.redis.put_many({KEY: SCORE})
        await until(lambda: one.count("written") == 1)
        assert await two.redis.get_many([KEY]) == {}
        async with serving(server.url, prefix="other") as (three,):
            assert await three.redis.get_many([KEY]) == {}


async def test_a_hanging_redis_delays_three_requests_and_is_used_again_later(
    server: RedisServer,
) -> None:
    async with serving(server.url, read_s=0.1) as (one,):
        await one.logits("a")
        server.pause()
        started = time.perf_counter()
        for i in range(40):
            assert await one.logits(f"a {i}") == [1]
        # Each of the first requests waits at most twice: for the look-up and for the claim.
        assert time.perf_counter() - started < 1.5
        assert one.count("timeouts") == 3
        assert one.count("breaker_open") == 1
        assert one.count("skipped") >= 70
        server.resume()
        await until(lambda: _uses_redis(one))
        assert one.count("breaker_open") == 0


async def _uses_redis(one: Server) -> bool:
    """Score a new pair. True if it was looked up in Redis and written to it."""
    before = one.count("misses"), one.count("written")
    await one.logits(f"a {time.perf_counter()}")
    await asyncio.sleep(0.05)
    return one.count("misses") > before[0] and one.count("written") > before[1]


async def test_a_late_response_is_not_mistaken_for_the_next_ones(server: RedisServer) -> None:
    async with serving(server.url, read_s=0.1) as (one,):
        keys = [bytes([i]) * 16 for i in range(100)]
        one.redis.put_many({key: Score(float(i), 1) for i, key in enumerate(keys)})
        await until(lambda: one.count("written") == 100)
        server.pause()
        assert await one.redis.get_many(keys[:50]) == {}
        server.resume()
        found = await one.redis.get_many(keys[50:])
        assert found == {key: Score(float(i), 1) for i, key in enumerate(keys) if i >= 50}
        # The response that was too late for its request still fills the memory tier.
        await until(lambda: len(one.store.get_many(keys[:50])) == 50)


async def test_requests_succeed_while_redis_is_down_and_after_its_restart(
    server: RedisServer,
) -> None:
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
        await until(lambda: _uses_redis(one))
        assert server.client().dbsize() > 0


async def test_a_restart_between_two_requests_causes_no_errors(server: RedisServer) -> None:
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
        await until(lambda: _uses_redis(two))
        assert two.count("write_breaker_open") == 0


async def test_a_wrong_password_is_counted_but_not_logged(
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


async def test_unreadable_values_are_scored_again_and_overwritten(server: RedisServer) -> None:
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
            assert await one.store.score_once([KEY], _score) == {KEY: SCORE}
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


async def test_a_full_queue_drops_pairs_and_counts_them(server: RedisServer) -> None:
    async with serving(server.url, max_queue=10) as (one,):
        one.redis.put_many({bytes([i]) * 16: SCORE for i in range(25)})
        await until(lambda: one.count("written") == 10)
        assert one.count("dropped") == 15


async def test_close_writes_the_queue(server: RedisServer) -> None:
    async with serving(server.url) as (one,):
        one.redis.put_many({KEY: SCORE})
    assert server.client().dbsize() == 1


async def test_cancelling_a_request_does_not_affect_others(server: RedisServer) -> None:
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
