"""Statistics of an engine: counts, and histograms that merge without loss."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

# Upper bounds of histogram buckets, in seconds, rows and tokens.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TOKENS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)

# Counters and their help texts.
COUNTS: Mapping[str, str] = {
    "rows": "Number of token rows run",
    "tokens": "Number of tokens in these rows, excluding padding",
    "padding_tokens": "Number of padding tokens run",
    "out_of_memory": "Number of out-of-memory errors",
}


@dataclass(slots=True)
class Distribution:
    """A histogram. `bounds` are upper bounds, inclusive; the last count is of what exceeds them."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    @property
    def total(self) -> int:
        """Number of values."""
        return sum(self.counts)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: Distribution) -> None:
        """Add another process's values. Raises ValueError if the bounds differ."""
        if self.bounds != other.bounds:
            raise ValueError("cannot merge distributions with different bounds")
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum

    def subtract(self, earlier: Distribution) -> None:
        """Leave only what was added after an earlier copy."""
        self.counts = [a - b for a, b in zip(self.counts, earlier.counts, strict=True)]
        self.sum -= earlier.sum

    def copy(self) -> Distribution:
        return Distribution(self.bounds, list(self.counts), self.sum)


# Distributions over micro-batches, with their buckets.
BUCKETS: Mapping[str, tuple[float, ...]] = {
    "forward_seconds": SECONDS,
    "batch_rows": ROWS,
    "batch_tokens": TOKENS,
}


class EngineStats:
    """Counts and distributions of one engine. One thread may add while another copies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._distributions: dict[str, Distribution] = {}
        self.clear()

    def clear(self) -> None:
        """Reset everything, for use after the warm-up."""
        with self._lock:
            self._counts = Counter(dict.fromkeys(COUNTS, 0))
            self._distributions = {name: Distribution(b) for name, b in BUCKETS.items()}

    def add(self, *, rows: int, tokens: int, padding: int, seconds: float) -> None:
        """Record one micro-batch: `seconds` is the time of its forward pass."""
        with self._lock:
            self._counts.update(rows=rows, tokens=tokens, padding_tokens=padding)
            self._distributions["forward_seconds"].add(seconds)
            self._distributions["batch_rows"].add(rows)
            self._distributions["batch_tokens"].add(tokens)

    def out_of_memory(self) -> None:
        """Record an out-of-memory error."""
        with self._lock:
            self._counts["out_of_memory"] += 1

    def counts(self) -> Counter[str]:
        """Counts by the names in COUNTS."""
        with self._lock:
            return self._counts.copy()

    def distributions(self) -> dict[str, Distribution]:
        """Copies of the distributions by the names in BUCKETS."""
        with self._lock:
            return {name: one.copy() for name, one in self._distributions.items()}
