"""What an engine has done: plain counts, and distributions that add up without loss."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

# Upper bounds of the buckets, in seconds, rows and tokens.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)

# What an engine counts.
COUNTS: Mapping[str, str] = {
    "rows": "Token rows that were run",
    "tokens": "Tokens in them",
    "padding_tokens": "Padding that was run beside them",
    "out_of_memory": "Times that the memory ended and the token budget was halved",
}


@dataclass(slots=True)
class Distribution:
    """How often values were how large. `counts` has one place more than `bounds`: what is over."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def total(self) -> int:
        return sum(self.counts)

    def add(self, value: float) -> None:
        """A value belongs to the first bucket whose bound it does not exceed."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: Distribution) -> None:
        """Add what another process saw. Raises ValueError where the bounds are not the same."""
        if self.bounds != other.bounds:
            raise ValueError("distributions of other bounds do not add up")
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def copy(self) -> Distribution:
        return Distribution(self.bounds, list(self.counts), self.sum)


# Of each micro-batch.
BUCKETS: Mapping[str, tuple[float, ...]] = {
    "forward_seconds": SECONDS,
    "batch_rows": ROWS,
    "batch_tokens": TOKENS,
}


class EngineStats:
    """An engine's figures. One thread may add while another copies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._distributions: dict[str, Distribution] = {}
        self.clear()

    def clear(self) -> None:
        """Forget what was run to warm up."""
        with self._lock:
            self._counts = Counter(dict.fromkeys(COUNTS, 0))
            self._distributions = {name: Distribution(b) for name, b in BUCKETS.items()}

    def add(self, *, rows: int, tokens: int, padding: int, seconds: float) -> None:
        """One micro-batch: its rows, their tokens, the padding between them, its forward pass."""
        with self._lock:
            self._counts.update(rows=rows, tokens=tokens, padding_tokens=padding)
            self._distributions["forward_seconds"].add(seconds)
            self._distributions["batch_rows"].add(rows)
            self._distributions["batch_tokens"].add(tokens)

    def out_of_memory(self) -> None:
        with self._lock:
            self._counts["out_of_memory"] += 1

    def counts(self) -> Counter[str]:
        """By name, as in COUNTS."""
        with self._lock:
            return self._counts.copy()

    def distributions(self) -> dict[str, Distribution]:
        """By name, as in BUCKETS."""
        with self._lock:
            return {name: one.copy() for name, one in self._distributions.items()}
