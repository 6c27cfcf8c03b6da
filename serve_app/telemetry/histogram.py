"""Durations in log-spaced buckets: quantiles within 10%, merged without loss."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from models.engine_stats import SECONDS, Distribution

# Each bucket is 10% wider than the one before; they cover 0.1 ms to about 110 s.
_BASE_S = 1e-4
_RATIO = 1.1
_BUCKETS = 146


@dataclass(slots=True)
class Histogram:
    """Durations in seconds. `shown` holds the coarser buckets for Prometheus."""

    counts: Counter[int] = field(default_factory=Counter)
    shown: Distribution = field(default_factory=lambda: Distribution(SECONDS))

    @property
    def total(self) -> int:
        return self.counts.total()

    @property
    def sum_s(self) -> float:
        return self.shown.sum

    def add(self, seconds: float) -> None:
        bucket = math.ceil(math.log(max(seconds, _BASE_S) / _BASE_S) / math.log(_RATIO))
        self.counts[min(bucket, _BUCKETS)] += 1
        self.shown.add(seconds)

    def quantile(self, q: float) -> float:
        """The duration in seconds at quantile `q` (0 to 1); 0 if there are no durations."""
        rank, seen = max(1, math.ceil(q * self.total)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return float(_BASE_S * _RATIO**bucket)
        return 0.0

    def merge(self, other: Histogram) -> None:
        self.counts.update(other.counts)
        self.shown.merge(other.shown)

    def subtract(self, earlier: Histogram) -> None:
        """Leave only what was added after an earlier copy."""
        self.counts.subtract(earlier.counts)
        self.shown.subtract(earlier.shown)
