"""The totals of one process as plain data, and how to merge several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models.engine_stats import Distribution
from serve_app.telemetry import store_metrics
from serve_app.telemetry.histogram import Histogram
from serve_app.telemetry.usage import MAX_KEY_NAMES, MAX_PAIRS, OTHER_KEYS, Counts

# What is counted for each API key: name to help text.
USAGE: Mapping[str, str] = {
    "requests": "Requests",
    "documents": "Documents ranked",
    "tokens": "Tokens of ranked pairs",
    "cached_tokens": "Tokens of pairs answered from the score store",
    "errors": "Requests answered with an error",
}


@dataclass(slots=True)
class Snapshot:
    """Totals of one process, or of several merged. Plain data.

    Keys: `requests` (dialect, model, status); `http` (dialect, status); `pairs` (model, what in
    `metrics.PAIRS`, or hits); `usage` (API key name, what in `USAGE`); `usage_by_model` as in
    `usage`; `model_events` (model, event); `shared` and `representations` ([model,] what) as in
    `store_metrics`; `engine` (model, what in `models.engine_stats`); `wait` and `process` model;
    `distributions` (model, what in `metrics.DISTRIBUTIONS`). `waiting`, `active` and `replicas`
    (by model) are current values.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    http: Counter[tuple[str, int]] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage_by_model: Counts = field(default_factory=Counter)
    model_events: Counter[tuple[str, str]] = field(default_factory=Counter)
    shared: Counter[str] = field(default_factory=Counter)
    representations: Counter[tuple[str, str]] = field(default_factory=Counter)
    engine: Counter[tuple[str, str]] = field(default_factory=Counter)
    replicas: Counter[str] = field(default_factory=Counter)
    wait: dict[str, Histogram] = field(default_factory=dict)
    process: dict[str, Histogram] = field(default_factory=dict)
    distributions: dict[tuple[str, str], Distribution] = field(default_factory=dict)
    waiting: int = 0
    active: int = 0


_COUNTERS = (
    *("requests", "http", "pairs", "usage", "model_events", "shared", "representations"),
    *("engine", "replicas", "usage_by_model"),
)


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return the sum of the snapshots."""
    total = Snapshot()
    for one in snapshots:
        for name in _COUNTERS:
            getattr(total, name).update(getattr(one, name))
        for mine, theirs in ((total.wait, one.wait), (total.process, one.process)):
            for model, histogram in theirs.items():
                mine.setdefault(model, Histogram()).merge(histogram)
        for key, distribution in one.distributions.items():
            into = total.distributions.setdefault(key, Distribution(distribution.bounds))
            into.merge(distribution)
        total.waiting += one.waiting
        total.active += one.active
    return total


def since(snapshot: Snapshot, earlier: Snapshot) -> Snapshot:
    """Return what was counted after an earlier snapshot of the same process; gauges as they are."""
    new, earlier = merge([snapshot]), without_gauges(earlier)
    for name in _COUNTERS:
        getattr(new, name).subtract(getattr(earlier, name))
    for mine, theirs in ((new.wait, earlier.wait), (new.process, earlier.process)):
        for model, histogram in theirs.items():
            mine[model].subtract(histogram)
    for key, distribution in earlier.distributions.items():
        new.distributions[key].subtract(distribution)
    return new


def with_few_keys(snapshot: Snapshot) -> Snapshot:
    """Count API key names beyond the maximum together, as a process does with its own."""
    names = list(dict.fromkeys(key for key, _ in snapshot.usage))
    pairs = list(dict.fromkeys((key, model) for key, model, _ in snapshot.usage_by_model))
    if len(names) <= MAX_KEY_NAMES and len(pairs) <= MAX_PAIRS:
        return snapshot
    few, few_pairs = set(names[:MAX_KEY_NAMES]), set(pairs[:MAX_PAIRS])
    bounded = merge([snapshot])
    bounded.usage.clear()
    bounded.usage_by_model.clear()
    for (key, what), number in snapshot.usage.items():
        bounded.usage[key if key in few else OTHER_KEYS, what] += number
    for (key, model, what), number in snapshot.usage_by_model.items():
        known = (key, model) in few_pairs
        bounded.usage_by_model[key if known else OTHER_KEYS, model, what] += number
    return bounded


def without_gauges(snapshot: Snapshot) -> Snapshot:
    """Return a copy without current values, for a process that has exited."""
    copy = merge([snapshot])
    copy.waiting = copy.active = 0
    copy.replicas.clear()
    copy.shared = Counter({k: n for k, n in copy.shared.items() if k in store_metrics.SHARED})
    kept = copy.representations.items()
    copy.representations = Counter({k: n for k, n in kept if k[1] in store_metrics.REPRESENTATIONS})
    return copy


def usage_of(snapshot: Snapshot, key: str) -> dict[str, int]:
    """The usage of the API key of that name."""
    return {what: snapshot.usage[key, what] for what in USAGE}


def key_names(snapshot: Snapshot) -> list[str]:
    """The names of the API keys that have any usage."""
    return sorted({name for name, _ in snapshot.usage})
