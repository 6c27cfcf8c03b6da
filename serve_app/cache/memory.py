"""The memory tier: bounded in bytes, with a time to live."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from models.types import Score
from serve_app.cache.flight import ScoreMany

if TYPE_CHECKING:
    from cachetools import LRUCache

# A 16-byte key, a packed score, and what the dictionary and the order cost; measured with
# tracemalloc over 100,000 entries and rounded up.
ENTRY_BYTES = 320
# When it expires, in seconds of the clock, and a Score's logit, tokens, passages and truncated.
# Packed, since the garbage collector looks at every object of a class again and again: half a
# million of them held the event loop for 140 ms.
_ENTRY = struct.Struct("<ddII?")


class ScoreStore(Protocol):
    """Where scores are kept by pair: in this process, and in what several servers share."""

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        """Scores that this process has."""
        ...

    async def fetch(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        """Scores that other servers have made, of keys that this process lacks. Never raises."""
        ...

    async def once(
        self, keys: Sequence[bytes], score: ScoreMany, *, whole: bool = False
    ) -> dict[bytes, Score]:
        """All keys' scores, by `score` for those that no other server is scoring now.

        `whole`: `score` takes all keys or none. Raises what `score` raises.
        """
        ...

    def put_many(self, scores: Mapping[bytes, Score]) -> None: ...

    def clear(self) -> None:
        """Forget what this process has."""
        ...

    def stats(self) -> dict[str, int]:
        """Entries, bytes, hits and misses of this process."""
        ...

    def shared_stats(self) -> dict[str, int]:
        """Figures of what is shared, named as in `telemetry.SHARED`; empty where nothing is."""
        ...

    async def close(self) -> None:
        """Hand over what is still to be written."""
        ...


class _Alone:
    """A store that shares nothing."""

    async def fetch(self, keys: Sequence[bytes]) -> dict[bytes, Score]:
        return {}

    async def once(
        self, keys: Sequence[bytes], score: ScoreMany, *, whole: bool = False
    ) -> dict[bytes, Score]:
        return await score(keys)

    def shared_stats(self) -> dict[str, int]:
        return {}

    async def close(self) -> None:
        return None


class MemoryStore(_Alone):
    """Least recently used entries go first once `max_bytes` is reached.

    One that has expired goes when it is asked for, or as any other.
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
        """The scores that are kept and have not expired."""
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


class NullStore(_Alone):
    """Keeps nothing."""

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Score]:
        return {}

    def put_many(self, scores: Mapping[bytes, Score]) -> None:
        return None

    def clear(self) -> None:
        return None

    def stats(self) -> dict[str, int]:
        return {"entries": 0, "bytes": 0, "hits": 0, "misses": 0}
