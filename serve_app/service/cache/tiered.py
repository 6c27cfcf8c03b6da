"""Two tiers: this process's memory, backed by a store shared by several servers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from models.types import Score
from serve_app.service.cache.memory import MemoryStore
from serve_app.service.cache.redis import RedisStore
from serve_app.service.cache.single_flight import ScoreMany

FIRST_POLL_S = 0.005
LONGEST_POLL_S = 0.05
# Limit on the total wait as a multiple of `wait_s`, even while scores keep arriving.
MAX_WAITS = 30


class TieredStore:
    """The memory tier on top of Redis.

    `wait_s`: seconds to wait for another server that is scoring the same pairs, counted from its
    last score. 0: do not wait, and take no locks.
    """

    def __init__(self, memory: MemoryStore, shared: RedisStore, wait_s: float = 1.0) -> None:
        self._memory = memory
        self._shared = shared
        self._wait_s = wait_s
        self._counts: Counter[str] = Counter()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        return self._memory.get_many(keys)

    async def fetch(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        return await self._shared.get_many(keys)

    async def score_once(
        self, keys: Sequence[bytes], score: ScoreMany, *, all_or_none: bool = False
    ) -> dict[bytes, Score]:
        if self._wait_s <= 0 or not keys:
            return await score(keys)
        if all_or_none:
            return await self._score_all_or_none(keys, score)
        scores: dict[bytes, Score] = {}
        left: Sequence[bytes] = keys
        waiting = _Waiting(self._wait_s)
        while left and waiting.in_time:
            claimed = await self._shared.claim(left)
            if claimed is None:
                break
            found, mine = claimed
            self._counts["awaited"] += len(found)
            scores |= found
            if mine:
                scores |= await self._score_claimed(mine, score)
            left = [key for key in left if key not in scores]
            if left:
                await waiting.pause(progress=bool(found or mine))
        return scores | (await score(left) if left else {})

    async def _score_all_or_none(
        self, keys: Sequence[bytes], score: ScoreMany
    ) -> dict[bytes, Score]:
        """Score all keys under the lock of the first one, or wait for all of them."""
        waiting = _Waiting(self._wait_s)
        while waiting.in_time:
            claimed = await self._shared.claim(keys[:1])
            if claimed is None:
                break
            found, mine = claimed
            if mine:
                return await self._score_claimed(keys, score)
            if found:
                scores = await self._shared.get_many(keys)
                if len(scores) < len(set(keys)):
                    break
                self._counts["awaited"] += len(scores)
                return scores
            await waiting.pause(progress=False)
        return await score(keys)

    async def _score_claimed(self, keys: Sequence[bytes], score: ScoreMany) -> dict[bytes, Score]:
        try:
            return await score(keys)
        except BaseException:
            self._shared.release(keys)
            raise

    def put_many(self, scores: Mapping[bytes, Score]) -> None:
        self._memory.put_many(scores)
        self._shared.put_many(scores)

    def clear(self) -> None:
        self._memory.clear()

    def stats(self) -> dict[str, int]:
        return self._memory.stats()

    def shared_stats(self) -> dict[str, int]:
        return {**self._shared.stats(), **self._counts}

    async def close(self) -> None:
        await self._shared.close()


class _Waiting:
    """Pauses between claims, short ones first; ends after `wait_s` without progress."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._last = time.monotonic() + wait_s * MAX_WAITS
        self._until = time.monotonic() + wait_s
        self._pause_s = FIRST_POLL_S

    @property
    def in_time(self) -> bool:
        return time.monotonic() < min(self._until, self._last)

    async def pause(self, *, progress: bool) -> None:
        """`progress`: whether the last claim returned scores or locks."""
        if progress:
            self._until = time.monotonic() + self._wait_s
            self._pause_s = FIRST_POLL_S
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(LONGEST_POLL_S, 1.5 * self._pause_s)
