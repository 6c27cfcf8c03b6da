"""The memory tier: bounded in bytes, with a time to live."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from cachetools import TTLCache

from models.types import Score

# A 16-byte key, a Score, and what the dictionary and the TTL links cost; measured with
# tracemalloc over 100,000 entries and rounded up.
ENTRY_BYTES = 512


class ScoreStore(Protocol):
    """Where scores are kept by pair."""

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]: ...

    def put_many(self, scores: Mapping[bytes, Score]) -> None: ...

    def clear(self) -> None: ...

    def stats(self) -> dict[str, int]: ...


class MemoryStore:
    """Least recently used entries go first once `max_bytes` is reached."""

    def __init__(
        self, max_bytes: int, ttl_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._entries: TTLCache[bytes, Score] = TTLCache(
            maxsize=max_bytes // ENTRY_BYTES, ttl=ttl_s, timer=clock
        )
        self._hits = 0
        self._misses = 0

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        """The scores that are kept and have not expired."""
        found: dict[bytes, Score] = {}
        for key in keys:
            score = self._entries.get(key)
            if score is None:
                self._misses += 1
            else:
                self._hits += 1
                found[key] = score
        return found

    def put_many(self, scores: Mapping[bytes, Score]) -> None:
        if self._entries.maxsize < 1:
            return
        for key, score in scores.items():
            self._entries[key] = score

    def clear(self) -> None:
        self._entries.clear()

    def stats(self) -> dict[str, int]:
        self._entries.expire()
        entries = len(self._entries)
        return {
            "entries": entries,
            "bytes": entries * ENTRY_BYTES,
            "hits": self._hits,
            "misses": self._misses,
        }


class NullStore:
    """Keeps nothing."""

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        return {}

    def put_many(self, scores: Mapping[bytes, Score]) -> None:
        return None

    def clear(self) -> None:
        return None

    def stats(self) -> dict[str, int]:
        return {"entries": 0, "bytes": 0, "hits": 0, "misses": 0}
