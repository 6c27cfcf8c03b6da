"""Export the metrics through Ray, for clusters that scrape Ray's metrics agents."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from ray.serve import metrics

from models.engine_stats import SECONDS, Distribution
from serve_app.telemetry.metrics import ALL_BUCKETS, DISTRIBUTIONS, Labels, Metric, all_metrics
from serve_app.telemetry.snapshot import Snapshot

# Ray appends this to the names of counters.
_SUFFIX = "_total"
_BOUNDS = {name: ALL_BUCKETS[what] for what, (name, _) in DISTRIBUTIONS.items()}


class RayMetrics:
    """Report changes to Ray periodically: a call to Ray per event would cost a request more than
    counting it does.

    Ray takes the observations of a histogram one by one. Each is reported as the upper bound of
    its bucket, so buckets and counts are exact; Ray only estimates sums anyway.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._reported: dict[tuple[str, Labels], float] = {}
        self._seen: dict[tuple[str, Labels], list[int]] = {}
        self._lock = threading.Lock()

    def update(self, snapshot: Snapshot) -> None:
        """Update Ray's metrics of this process to this process's `snapshot`."""
        with self._lock:
            for metric in all_metrics(snapshot):
                for values, number in metric.numbers.items():
                    self._set(metric, values, number)
                for values, distribution in metric.distributions.items():
                    self._observe(metric, values, distribution)

    def _set(self, metric: Metric, values: Labels, number: float) -> None:
        tags = dict(zip(metric.labels, values, strict=True))
        if metric.kind == "gauge":
            self._ray_metric(metric).set(number, tags)
            return
        increase = number - self._reported.get((metric.name, values), 0)
        if increase > 0:
            self._ray_metric(metric).inc(increase, tags)
            self._reported[metric.name, values] = number

    def _observe(self, metric: Metric, values: Labels, distribution: Distribution) -> None:
        seen = self._seen.get((metric.name, values), [0] * len(distribution.counts))
        for value in new_values(distribution, seen):
            self._ray_metric(metric).observe(value, dict(zip(metric.labels, values, strict=True)))
        self._seen[metric.name, values] = list(distribution.counts)

    def _ray_metric(self, metric: Metric) -> Any:
        if metric.name not in self._metrics:
            name, more = metric.name.removesuffix(_SUFFIX), {}
            if metric.kind == "histogram":
                more = {"boundaries": list(_BOUNDS.get(metric.name, SECONDS))}
            kind = getattr(metrics, metric.kind.capitalize())
            self._metrics[metric.name] = kind(name, metric.text, tag_keys=metric.labels, **more)
        return self._metrics[metric.name]


def new_values(distribution: Distribution, seen: list[int]) -> Iterator[float]:
    """Yield one value per observation since `seen`: the upper bound of its bucket."""
    overflow = 2 * distribution.bounds[-1]
    bounds = (*distribution.bounds, overflow)
    for bound, now, before in zip(bounds, distribution.counts, seen, strict=True):
        for _ in range(now - before):
            yield bound
