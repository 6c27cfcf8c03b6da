"""Counts and latencies that add up exactly over processes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from serve_app import tiers
from serve_app import usage as by_model

# Log-spaced buckets, each 10% wider than the one before, from 0.1 ms to about 110 s: a quantile
# is right within 10%, and histograms of several replicas add up without loss.
_BASE_S = 1e-4
_RATIO = 1.1
_BUCKETS = 146
# Upper bounds, in seconds, of the buckets that Prometheus sees.
PROMETHEUS_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

# What is counted for each API key, by its name, and what Prometheus is told of it.
USAGE: Mapping[str, str] = {
    "requests": "Requests",
    "documents": "Ranked documents",
    "tokens": "Tokens of ranked pairs",
    "cached_tokens": "Tokens that the score store answered",
    "errors": "Requests answered by an error",
}
# Names come and go with the file of keys; those over this many are counted together.
MAX_KEY_NAMES = 2000
OTHER_KEYS = "other"


@dataclass(slots=True)
class Histogram:
    """Durations in seconds by log-spaced bucket."""

    counts: Counter[int] = field(default_factory=Counter)
    bounds: list[int] = field(default_factory=lambda: [0] * (len(PROMETHEUS_BOUNDS) + 1))
    total: int = 0
    sum_s: float = 0.0

    def add(self, seconds: float) -> None:
        bucket = math.ceil(math.log(max(seconds, _BASE_S) / _BASE_S) / math.log(_RATIO))
        self.counts[min(bucket, _BUCKETS)] += 1
        self.bounds[sum(seconds > bound for bound in PROMETHEUS_BOUNDS)] += 1
        self.total += 1
        self.sum_s += seconds

    def quantile(self, q: float) -> float:
        """Seconds under which the share `q` of the durations lies; 0 where there are none."""
        rank, seen = max(1, math.ceil(q * self.total)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                return float(_BASE_S * _RATIO**bucket)
        return 0.0

    def merge(self, other: Histogram) -> None:
        self.counts.update(other.counts)
        self.bounds = [a + b for a, b in zip(self.bounds, other.bounds, strict=True)]
        self.total += other.total
        self.sum_s += other.sum_s


@dataclass(slots=True)
class Snapshot:
    """Totals of one process, or of several merged. Plain data.

    `requests` counts by (model, status); `http` by (dialect, status); `usage` by (API key's
    name, what), where what is one of `USAGE`; `usage_by_model` as in `usage.py`;
    `upstream` by (model, event) what happened in calls to providers; `shared` by what, as in
    `tiers`; `representations` by (model, what), as there.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    http: Counter[tuple[str, int]] = field(default_factory=Counter)
    usage: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage_by_model: by_model.Counts = field(default_factory=Counter)
    upstream: Counter[tuple[str, str]] = field(default_factory=Counter)
    shared: Counter[str] = field(default_factory=Counter)
    representations: Counter[tuple[str, str]] = field(default_factory=Counter)
    wait: Histogram = field(default_factory=Histogram)
    process: Histogram = field(default_factory=Histogram)
    tokens: int = 0
    cache_hits: int = 0
    shared_hits: int = 0
    cache_misses: int = 0
    deduplicated: int = 0
    waiting: int = 0
    active: int = 0


class Telemetry:
    """One process's figures."""

    def __init__(self) -> None:
        self._own = Snapshot()
        self._key_names: set[str] = set()
        self._key_models: set[tuple[str, str]] = set()

    def record_http(self, dialect: str, status: int) -> None:
        self._own.http[dialect, status] += 1

    def record_request(self, model: str, status: int, wait_s: float, process_s: float) -> None:
        """One rerank request, by HTTP or by handle; times in seconds."""
        self._own.requests[model, status] += 1
        self._own.wait.add(wait_s)
        self._own.process.add(process_s)

    def record_pairs(
        self, *, tokens: int, hits: int, misses: int, deduplicated: int, shared_hits: int = 0
    ) -> None:
        """One request's pairs; `shared_hits` of the `hits` came from the shared store."""
        self._own.tokens += tokens
        self._own.cache_hits += hits
        self._own.shared_hits += shared_hits
        self._own.cache_misses += misses
        self._own.deduplicated += deduplicated

    def record_usage(self, key: str, **amounts: int) -> None:
        """Add to what the client of that name has used; the amounts are named as in `USAGE`."""
        if key not in self._key_names:
            if len(self._key_names) >= MAX_KEY_NAMES:
                key = OTHER_KEYS
            self._key_names.add(key)
        for what, amount in amounts.items():
            self._own.usage[key, what] += amount

    def record_model_usage(self, key: str, model: str, **amounts: int) -> None:
        """The same by the model that answered; the amounts are named as in `MODEL_USAGE`."""
        if (key, model) not in self._key_models:
            if len(self._key_models) >= by_model.MAX_PAIRS:
                key = OTHER_KEYS
            self._key_models.add((key, model))
        for what, amount in amounts.items():
            self._own.usage_by_model[key, model, what] += amount

    def record_fallback(self, model: str) -> None:
        """A request that another model answered in place of `model`."""
        self._own.upstream[model, "fallbacks"] += 1

    def snapshot(
        self, *, waiting: int = 0, active: int = 0, shared: Mapping[str, int] | None = None
    ) -> Snapshot:
        """A copy of the totals, with the queue and the shared store as they are now."""
        copy = merge([self._own])
        copy.waiting, copy.active = waiting, active
        copy.shared.update(shared or {})
        return copy


_NUMBERS = (
    *("tokens", "cache_hits", "shared_hits", "cache_misses", "deduplicated"),
    *("waiting", "active"),
)


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of several processes' figures."""
    total = Snapshot()
    for one in snapshots:
        total.requests.update(one.requests)
        total.http.update(one.http)
        total.usage.update(one.usage)
        total.usage_by_model.update(one.usage_by_model)
        total.upstream.update(one.upstream)
        total.shared.update(one.shared)
        total.representations.update(one.representations)
        total.wait.merge(one.wait)
        total.process.merge(one.process)
        for name in _NUMBERS:
            setattr(total, name, getattr(total, name) + getattr(one, name))
    return total


def settled(snapshot: Snapshot) -> Snapshot:
    """The counts of a process that is gone, without what it held."""
    copy = merge([snapshot])
    copy.waiting = copy.active = 0
    copy.shared = Counter({k: n for k, n in copy.shared.items() if k in tiers.SHARED})
    kept = copy.representations.items()
    copy.representations = Counter({k: n for k, n in kept if k[1] in tiers.REPRESENTATIONS})
    return copy


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """Totals, success rate and times in milliseconds."""
    total = sum(snapshot.requests.values())
    successful = sum(n for (_, status), n in snapshot.requests.items() if status < 400)
    looked_up = snapshot.cache_hits + snapshot.cache_misses
    return {
        "total_requests": total,
        "successful_requests": successful,
        "failed_requests": total - successful,
        "success_rate": successful / total if total else 1.0,
        "wait_time_ms": _times(snapshot.wait),
        "process_time_ms": _times(snapshot.process),
        "tokens": snapshot.tokens,
        "cache": {
            "hits": snapshot.cache_hits,
            "shared_hits": snapshot.shared_hits,
            "misses": snapshot.cache_misses,
            "hit_rate": snapshot.cache_hits / looked_up if looked_up else 0.0,
            "deduplicated": snapshot.deduplicated,
        },
        "shared_store": tiers.shared_json(snapshot.shared),
        "representations": tiers.representations_json(snapshot.representations),
        "waiting": snapshot.waiting,
        "active": snapshot.active,
        "requests_by_model": _grouped(snapshot.requests),
        "responses_by_dialect": _grouped(snapshot.http),
        "upstream_by_model": _grouped(snapshot.upstream),
        "usage_by_key": {name: usage_of(snapshot, name) for name in _key_names(snapshot)},
        **by_model.to_json(snapshot.usage_by_model),
    }


def usage_of(snapshot: Snapshot, key: str) -> dict[str, int]:
    """What the client of that name has used."""
    return {what: snapshot.usage[key, what] for what in USAGE}


def _key_names(snapshot: Snapshot) -> list[str]:
    return sorted({name for name, _ in snapshot.usage})


def _times(histogram: Histogram) -> dict[str, float]:
    average = histogram.sum_s / histogram.total if histogram.total else 0.0
    values = {"average": average, **{f"p{q}": histogram.quantile(q / 100) for q in (50, 95, 99)}}
    return {name: round(seconds * 1000, 3) for name, seconds in values.items()}


def _grouped(counts: Mapping[tuple[str, Any], int]) -> dict[str, dict[str, int]]:
    grouped: dict[str, dict[str, int]] = {}
    for (name, status), number in sorted(counts.items()):
        grouped.setdefault(name, {})[str(status)] = number
    return grouped


def to_prometheus(snapshot: Snapshot) -> bytes:
    """Prometheus' text format, version 0.0.4."""
    return ("\n".join(_lines(snapshot)) + "\n").encode()


def _lines(snapshot: Snapshot) -> Iterator[str]:
    yield from _head("rerank_requests_total", "counter", "Rerank requests by model and status.")
    for (model, status), number in sorted(snapshot.requests.items()):
        yield f'rerank_requests_total{{model="{_escape(model)}",status="{status}"}} {number}'
    yield from _head("rerank_http_responses_total", "counter", "Answers by dialect and status.")
    for (dialect, status), number in sorted(snapshot.http.items()):
        name = _escape(dialect)
        yield f'rerank_http_responses_total{{dialect="{name}",status="{status}"}} {number}'
    yield from _head("rerank_upstream_total", "counter", "Events in calls to providers, by model.")
    for (model, event), number in sorted(snapshot.upstream.items()):
        yield f'rerank_upstream_total{{model="{_escape(model)}",event="{_escape(event)}"}} {number}'
    for what, meaning in USAGE.items():
        yield from _head(f"rerank_key_{what}_total", "counter", f"{meaning}, by API key's name.")
        for name in _key_names(snapshot):
            number = snapshot.usage[name, what]
            yield f'rerank_key_{what}_total{{key="{_escape(name)}"}} {number}'
    for name, meaning, values in by_model.metrics(snapshot.usage_by_model):
        yield from _head(name, "counter", meaning)
        for key, model, number in values:
            yield f'{name}{{key="{_escape(key)}",model="{_escape(model)}"}} {number}'
    yield from _histogram("rerank_queue_wait_seconds", "Time in the queue.", snapshot.wait)
    yield from _histogram("rerank_process_seconds", "Time in the service.", snapshot.process)
    for name, text, value in (
        ("rerank_tokens_total", "Tokens of scored pairs.", snapshot.tokens),
        ("rerank_cache_misses_total", "Pairs that no store had.", snapshot.cache_misses),
        (
            "rerank_pairs_deduplicated_total",
            "Pairs scored once for several uses.",
            snapshot.deduplicated,
        ),
    ):
        yield from _head(name, "counter", text)
        yield f"{name} {value}"
    yield from _head("rerank_cache_hits_total", "counter", "Pairs that a store had, by tier.")
    memory_hits = snapshot.cache_hits - snapshot.shared_hits
    yield f'rerank_cache_hits_total{{tier="memory"}} {memory_hits}'
    yield f'rerank_cache_hits_total{{tier="redis"}} {snapshot.shared_hits}'
    for metric in tiers.metrics(snapshot.shared, snapshot.representations):
        yield from _head(metric.name, metric.kind, metric.text)
        for owner, number in metric.values:
            label = "" if owner is None else f'{{model="{_escape(owner)}"}}'
            yield f"{metric.name}{label} {number}"
    for name, text, value in (
        ("rerank_requests_waiting", "Requests in the queue.", snapshot.waiting),
        ("rerank_requests_active", "Requests being scored.", snapshot.active),
    ):
        yield from _head(name, "gauge", text)
        yield f"{name} {value}"


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _histogram(name: str, text: str, histogram: Histogram) -> Iterator[str]:
    yield from _head(name, "histogram", text)
    seen = 0
    for bound, count in zip((*PROMETHEUS_BOUNDS, "+Inf"), histogram.bounds, strict=True):
        seen += count
        yield f'{name}_bucket{{le="{bound}"}} {seen}'
    yield f"{name}_sum {histogram.sum_s}"
    yield f"{name}_count {histogram.total}"


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
