"""The shared tier: scores in Redis, read with a short timeout and written in the background.

Nothing here raises when Redis fails: the failure is counted, and requests continue without Redis.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from models.types import Score
from serve_app.service.cache.breaker import Breaker
from serve_app.service.cache.packed_score import pack, unpack

logger = logging.getLogger("ray.serve")

# Part of every key, next to the release. Increase it when the meaning of keys or values changes.
FORMAT = 1
CONNECTIONS = 8
# For calls that no request waits for: long enough to connect, or to read a late response.
CALL_TIMEOUT_S = 1.0
# Extra turns of the event loop after the timeout: if the loop was busy, a response that arrived
# in time may not have been read yet.
GRACE_TURNS = 8
READ_KEYS = 1000
# A script blocks the Redis server: short ones let other commands run in between.
SCRIPT_KEYS = 500
# Longer than scoring takes. Nobody waits that long for a crashed server: see `wait_s`.
LOCK_MS = 30_000
LOCK = b":lock"

# Scripts, because a pipeline of SETs takes ten times as much CPU time in this process.
_WRITE = """
for i, key in ipairs(KEYS) do
  local lock = key .. ARGV[1]
  if ARGV[i + 3] ~= '' then
    redis.call('SET', key, ARGV[i + 3], 'PX', ARGV[3])
    redis.call('DEL', lock)
  elseif redis.call('GET', lock) == ARGV[2] then
    redis.call('DEL', lock)
  end
end
"""
# For each key: its value; otherwise 1 if the lock was acquired, 0 if another server holds it.
_CLAIM = """
local found = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  if not found[i] then
    found[i] = redis.call('SET', key .. ARGV[1], ARGV[2], 'NX', 'PX', ARGV[3]) and 1 or 0
  end
end
return found
"""


class RedisStore:
    """Scores by pair in a Redis shared by several servers.

    `read_s`: seconds that a request waits for a response. `on_found` is called with every score
    read, including those that arrive after the request has moved on. `max_queue`: maximum number
    of pairs waiting to be written; more are dropped.
    """

    def __init__(
        self,
        url: str,
        *,
        version: str,
        prefix: str = "rerank",
        ttl_s: float = 86_400.0,
        read_s: float = 0.02,
        max_queue: int = 50_000,
        on_found: Callable[[Mapping[bytes, Score]], None] = lambda scores: None,
    ) -> None:
        """Raises ValueError for an invalid Redis URL. Connects on first use."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=CALL_TIMEOUT_S,
            socket_timeout=CALL_TIMEOUT_S,
            socket_connect_timeout=CALL_TIMEOUT_S,
            # One retry on a new connection: after a restart the old ones are dead.
            retry=Retry(NoBackoff(), 1),
        )
        # Any, because the client's own types do not say what its calls return.
        self._client: Any = Redis(connection_pool=pool)
        self._prefix = f"{prefix}:{FORMAT}:{version}:".encode()
        self._token = uuid.uuid4().bytes
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._read_s = read_s
        self._max_queue = max_queue
        self._on_found = on_found
        self._reads = Breaker()
        self._writes = Breaker()
        self._counts: Counter[str] = Counter()
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def get_many(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        """Return the scores that arrive within `read_s`."""
        if not self._may_ask(keys):
            return {}
        found: dict[bytes, Score] = {}
        await self._within(self._read(keys, found), self._reads)
        self._counts["hits"] += len(found)
        self._counts["misses"] += len(keys) - len(found)
        return dict(found)

    async def claim(self, keys: Sequence[bytes]) -> tuple[dict[bytes, Score], list[bytes]] | None:
        """Return the scores found, and the keys that this server has locked and must score.

        Another server is scoring the remaining keys. None if Redis did not respond.
        """
        if self._writes.open or not self._may_ask(keys):
            return None
        scores: dict[bytes, Score] = {}
        mine: list[bytes] = []
        try:
            responded = await self._within(self._claim(keys, scores, mine), self._writes)
        except asyncio.CancelledError:
            self.release(keys)
            raise
        return (dict(scores), list(mine)) if responded else None

    def put_many(self, scores: Mapping[bytes, Score]) -> None:
        """Queue scores for writing."""
        packed = ((key, pack(key, score)) for key, score in scores.items())
        self._enqueue([(key, value) for key, value in packed if value is not None])

    def release(self, keys: Sequence[bytes]) -> None:
        """Queue the release of locks that `claim` acquired, for keys that were not scored."""
        self._enqueue([(key, b"") for key in keys])

    def stats(self) -> dict[str, int]:
        """Return counts since the start, the queue's length and the breakers' state."""
        now = {
            "queued": len(self._queue),
            "breaker_open": int(self._reads.open),
            "write_breaker_open": int(self._writes.open),
        }
        return {**self._counts, **now}

    async def close(self) -> None:
        """Write what is queued, for at most a second, and disconnect."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=CALL_TIMEOUT_S)
        self._counts["dropped"] += len(self._queue)
        self._queue.clear()
        for task in [self._writer, *self._tasks]:
            if task is not None:
                task.cancel()
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    def _may_ask(self, keys: Sequence[bytes]) -> bool:
        if not self._reads.open:
            return True
        self._counts["skipped"] += len(keys)
        if self._reads.due():
            self._spawn(self._probe())
        return False

    async def _within(self, call: Coroutine[Any, Any, None], refusals: Breaker) -> bool:
        """Return whether the call succeeded within `read_s`; if not, it continues in background.

        `refusals`: the breaker for calls that the Redis server rejects. Timeouts and connection
        errors always count against reads.
        """
        task = self._spawn(call)
        await asyncio.wait({task}, timeout=self._read_s)
        for _ in range(GRACE_TURNS):
            if not task.done():
                await asyncio.sleep(0)
        if not task.done():
            self._counts["timeouts"] += 1
            self._note_failure(self._reads, f"no response within {self._read_s * 1000:g} ms")
            return False
        error = task.exception()
        if error is None:
            self._reads.succeeded()
            return True
        self._count_error(error, refusals if isinstance(error, ResponseError) else self._reads)
        return False

    async def _read(self, keys: Sequence[bytes], found: dict[bytes, Score]) -> None:
        for part in _parts(keys, READ_KEYS):
            values = await self._client.mget([self._prefix + key for key in part])
            self._collect(part, values, found)

    async def _claim(
        self, keys: Sequence[bytes], scores: dict[bytes, Score], mine: list[bytes]
    ) -> None:
        for part in _parts(keys, SCRIPT_KEYS):
            names = [self._prefix + key for key in part]
            answers = await self._client.eval(
                _CLAIM, len(names), *names, LOCK, self._token, LOCK_MS
            )
            self._collect(part, [None if isinstance(a, int) else a for a in answers], scores)
            # Keys with an unreadable value are scored again and overwritten.
            mine += [k for k, a in zip(part, answers, strict=True) if a != 0 and k not in scores]

    def _collect(
        self, keys: Sequence[bytes], values: Sequence[object], scores: dict[bytes, Score]
    ) -> None:
        read = {}
        for key, value in zip(keys, values, strict=True):
            score = unpack(key, value)
            if score is not None:
                read[key] = score
            elif value is not None:
                self._counts["unreadable"] += 1
        scores.update(read)
        self._on_found(read)

    def _enqueue(self, entries: Sequence[tuple[bytes, bytes]]) -> None:
        room = self._max_queue - len(self._queue)
        if self._writes.open and not self._writes.due():
            room = 0
        self._queue.extend(itertools.islice(entries, max(0, room)))
        self._counts["dropped"] += max(0, len(entries) - max(0, room))
        if self._queue and (self._writer is None or self._writer.done()):
            self._writer = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(SCRIPT_KEYS, len(self._queue)))]
            names = [self._prefix + key for key, _ in batch]
            values = [value for _, value in batch]
            try:
                await self._client.eval(
                    _WRITE, len(names), *names, LOCK, self._token, self._ttl_ms, *values
                )
            except (RedisError, OSError, TimeoutError) as error:
                self._counts["dropped"] += len(batch)
                self._count_error(error, self._writes)
                if self._writes.open:
                    self._counts["dropped"] += len(self._queue)
                    self._queue.clear()
            else:
                self._counts["written"] += sum(map(bool, values))
                self._writes.succeeded()

    async def _probe(self) -> None:
        """Allow reads again once Redis responds within `read_s`."""
        try:
            await self._client.ping()  # may have to connect
            started = time.perf_counter()
            await self._client.ping()
        except (RedisError, OSError, TimeoutError):
            return self._reads.postpone()
        if time.perf_counter() - started > self._read_s:
            return self._reads.postpone()
        self._reads.close()
        logger.info("shared score store available again")
        return None

    def _count_error(self, error: BaseException, breaker: Breaker) -> None:
        # Rejected by the Redis server: out of memory, read-only, no permission.
        refused = isinstance(error, ResponseError)
        self._counts["refused" if refused else "errors"] += 1
        self._note_failure(breaker, f"{type(error).__name__}: {error}")

    def _note_failure(self, breaker: Breaker, reason: str) -> None:
        if breaker.failed():
            action = "writing to" if breaker is self._writes else "reading from"
            logger.warning(
                "shared score store unavailable, not %s it for %.0f s: %s",
                action,
                breaker.pause_s,
                reason,
            )

    def _spawn(self, call: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it


def _parts(keys: Sequence[bytes], size: int) -> list[Sequence[bytes]]:
    return [keys[start : start + size] for start in range(0, len(keys), size)]
