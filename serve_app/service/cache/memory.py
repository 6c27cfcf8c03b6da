"""The memory tier: limited in bytes, with a time to live."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from models.types import Score
from serve_app.service.cache.single_flight import ScoreMany

if TYPE_CHECKING:
    from cachetools import LRUCache

# A 16-byte key, a packed score, and the overhead of the LRU cache. Measured with tracemalloc
# over 100,000 entries and rounded up.
ENTRY_BYTES = 320
# Expiry in seconds of the clock, then the Score's logit, tokens, passages and truncated. Packed
# because the garbage collector traverses class instances: half a million of them blocked the
# event loop for 140 ms.
_ENTRY = struct.Struct("<ddII?")


class ScoreStore(Protocol):
    """Scores by pair, in this process's memory and optionally in a store shared by servers."""

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        """Return the scores in this process's memory."""
        ...

    async def fetch(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        """Return scores from the shared store. Never raises."""
        ...

    async def score_once(
        self, keys: Sequence[bytes], score: ScoreMany, *, all_or_none: bool = False
    ) -> dict[bytes, Score]:
        """Return the scores of all keys; `score` gets those that no other server is scoring.

        `all_or_none`: call `score` with all keys or not at all. Raises what `score` raises.
        """
        ...

    def put_many(self, scores: Mapping[bytes, Score]) -> None: ...

    def clear(self) -> None:
        """Drop all scores in this process's memory."""
        ...

    def stats(self) -> dict[str, int]:
        """Return entries, bytes, hits and misses of this process."""
        ...

    def shared_stats(self) -> dict[str, int]:
        """Return the shared store's counts, named as in `telemetry.SHARED`; empty without one."""
        ...

    async def close(self) -> None:
        """Write what is still queued, and disconnect."""
        ...


class _LocalStore:
    """A store without a shared tier."""

    async def fetch(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        return {}

    async def score_once(
        self, keys: Sequence[bytes], score: ScoreMany, *, all_or_none: bool = False
    ) -> dict[bytes, Score]:
        return await score(keys)

    def shared_stats(self) -> dict[str, int]:
        return {}

    async def close(self) -> None:
        return None


class MemoryStore(_LocalStore):
    """An LRU cache of at most `max_bytes`.

    An expired entry is dropped when it is looked up, or evicted like any other.
    """

    def __init__(
        self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from cachetools import LRUCache

        self._entries: LRUCache[bytes, bytes] = LRUCache(max_bytes // ENTRY_BYTES)
        self._ttl_s = ttl_s
        self._clock = clock
        self._hits = 0
        self._misses = 0

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        """Return the scores that have not expired."""
        found: dict[bytes, Score] = {}
        now = self._clock()
        for key in keys:
            if (entry := self._entries.get(key)) is not None:
                expires, logit, tokens, passages, truncated = _ENTRY.unpack(entry)
                if expires > now:
                    self._hits += 1
                    found[key] = Score(logit, tokens, truncated, passages)
                    continue
                del self._entries[key]
            self._misses += 1
        return found

    def put_many(self, scores: Mapping[bytes, Score]) -> None:
        if self._entries.maxsize < 1:
            return
        expires = self._clock() + self._ttl_s
        for key, score in scores.items():
            self._entries[key] = _ENTRY.pack(
                expires, score.logit, score.tokens, score.passages, score.truncated
            )

    def clear(self) -> None:
        self._entries.clear()

    def stats(self) -> dict[str, int]:
        entries = len(self._entries)
        return {
            "entries": entries,
            "bytes": entries * ENTRY_BYTES,
            "hits": self._hits,
            "misses": self._misses,
        }


class NullStore(_LocalStore):
    """Stores nothing."""

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        return {}

    def put_many(self, scores: Mapping[bytes, Score]) -> None:
        return None

    def clear(self) -> None:
        return None

    def stats(self) -> dict[str, int]:
        return {"entries": 0, "bytes": 0, "hits": 0, "misses": 0}
