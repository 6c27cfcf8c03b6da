"""Two tiers: this process's memory, and behind it what several servers share."""

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
# However much another server makes of what is waited for: so many times `wait_s` at most.
LONGEST_WAITS = 30


class TieredStore:
    """The memory tier, filled from Redis and writing to it.

    `wait_s`: seconds to wait for another server's scoring of the same pairs while nothing of it
    comes; 0 never waits, and takes no locks.
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

    async def once(
        self, keys: Sequence[bytes], score: ScoreMany, *, whole: bool = False
    ) -> dict[bytes, Score]:
        if self._wait_s <= 0 or not keys:
            return await score(keys)
        if whole:
            return await self._whole(keys, score)
        scores: dict[bytes, Score] = {}
        left: Sequence[bytes] = keys
        waiting = _Waiting(self._wait_s)
        while left and waiting.goes_on:
            claimed = await self._shared.claim(left)
            if claimed is None:
                break
            landed, mine = claimed
            self._counts["awaited"] += len(landed)
            scores |= landed
            if mine:
                scores |= await self._score_claimed(mine, score)
            left = [key for key in left if key not in scores]
            if left:
                await waiting.pause(came=bool(landed or mine))
        return scores | (await score(left) if left else {})

    async def _whole(self, keys: Sequence[bytes], score: ScoreMany) -> dict[bytes, Score]:
        """One lock for all keys, which are had together or not at all."""
        waiting = _Waiting(self._wait_s)
        while waiting.goes_on:
            claimed = await self._shared.claim(keys[:1])
            if claimed is None:
                break
            landed, mine = claimed
            if mine:
                return await self._score_claimed(keys, score)
            if landed:
                scores = await self._shared.get_many(keys)
                if len(scores) < len(set(keys)):
                    break
                self._counts["awaited"] += len(scores)
                return scores
            await waiting.pause(came=False)
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
    """Pauses between looks, short ones first, until nothing has come for `wait_s`."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._last = time.monotonic() + wait_s * LONGEST_WAITS
        self._until = time.monotonic() + wait_s
        self._pause_s = FIRST_POLL_S

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < min(self._until, self._last)

    async def pause(self, *, came: bool) -> None:
        """`came`: whether the last look had anything to show."""
        if came:
            self._until = time.monotonic() + self._wait_s
            self._pause_s = FIRST_POLL_S
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(LONGEST_POLL_S, 1.5 * self._pause_s)
