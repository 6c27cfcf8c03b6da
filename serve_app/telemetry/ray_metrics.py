"""The same metrics through Ray, so that a scrape of a cluster's metrics agents finds them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from ray.serve import metrics

from models.engine_stats import SECONDS, Distribution
from serve_app.telemetry.metrics import (
    ALL_BUCKETS,
    DISTRIBUTIONS,
    Family,
    Labels,
    families,
)
from serve_app.telemetry.snapshot import Snapshot

# Ray adds it to counters by itself.
_SUFFIX = "_total"
_BOUNDS = {name: ALL_BUCKETS[what] for what, (name, _) in DISTRIBUTIONS.items()}


class RayMetrics:
    """Tells Ray what has come since the last time: a call of Ray's for each would cost a request
    more than its own counting does.

    Ray wants each observation of a histogram by itself. Each is told as its bucket's upper bound,
    so that buckets and counts are exact; sums are Ray's own estimate in any case.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._told: dict[tuple[str, Labels], float] = {}
        self._seen: dict[tuple[str, Labels], list[int]] = {}
        self._lock = threading.Lock()

    def tell(self, snapshot: Snapshot) -> None:
        """Bring Ray's figures of this process to the snapshot's, which is of the same process."""
        with self._lock:
            for family in families(snapshot):
                for values, number in family.numbers.items():
                    self._number(family, values, number)
                for values, distribution in family.distributions.items():
                    self._observe(family, values, distribution)

    def _number(self, family: Family, values: Labels, number: float) -> None:
        tags = dict(zip(family.labels, values, strict=True))
        if family.kind == "gauge":
            self._metric(family).set(number, tags)
            return
        more = number - self._told.get((family.name, values), 0)
        if more > 0:
            self._metric(family).inc(more, tags)
            self._told[family.name, values] = number

    def _observe(self, family: Family, values: Labels, distribution: Distribution) -> None:
        seen = self._seen.get((family.name, values), [0] * len(distribution.counts))
        for value in new_values(distribution, seen):
            self._metric(family).observe(value, dict(zip(family.labels, values, strict=True)))
        self._seen[family.name, values] = list(distribution.counts)

    def _metric(self, family: Family) -> Any:
        if family.name not in self._metrics:
            name, more = family.name.removesuffix(_SUFFIX), {}
            if family.kind == "histogram":
                more = {"boundaries": list(_BOUNDS.get(family.name, SECONDS))}
            kind = getattr(metrics, family.kind.capitalize())
            self._metrics[family.name] = kind(name, family.text, tag_keys=family.labels, **more)
        return self._metrics[family.name]


def new_values(distribution: Distribution, seen: list[int]) -> Iterator[float]:
    """A value in its bucket for each observation that was not told yet."""
    largest = 2 * distribution.bounds[-1]
    places = (*distribution.bounds, largest)
    for bound, now, before in zip(places, distribution.counts, seen, strict=True):
        for _ in range(now - before):
            yield bound
