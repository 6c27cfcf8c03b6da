"""One process's totals as plain data, and the sum of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from models.engine_stats import Distribution
from serve_app.telemetry import store_metrics
from serve_app.telemetry.histogram import Histogram
from serve_app.telemetry.usage import Counts

# What is counted for each API key, by its name, and what Prometheus is told of it.
USAGE: Mapping[str, str] = {
    "requests": "Requests",
    "documents": "Ranked documents",
    "tokens": "Tokens of ranked pairs",
    "cached_tokens": "Tokens that the score store answered",
    "errors": "Requests answered by an error",
}


@dataclass(slots=True)
class Snapshot:
    """Totals of one process, or of several merged. Plain data.

    `requests` counts by (dialect, model, status); `http` by (dialect, status); `pairs` by
    (model, what) what became of the documents; `usage` by (API key's name, what), where what is
    one of `USAGE`; `usage_by_model` as in `usage.py`; `upstream` by (model, event) what happened
    in calls to models; `shared` by what, as in `tiers`; `representations` by (model, what), as
    there; `engine` by (model, what), as in `models.engine_stats`. `wait` and `process` are by
    model, `distributions` by (model, what) as in `families`. `waiting`, `active` and `replicas`
    (by model) are of this moment.
    """

    requests: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    http: Counter[tuple[str, int]] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage: Counter[tuple[str, str]] = field(default_factory=Counter)
    usage_by_model: Counts = field(default_factory=Counter)
    upstream: Counter[tuple[str, str]] = field(default_factory=Counter)
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
    *("requests", "http", "pairs", "usage", "upstream", "shared", "representations"),
    *("engine", "replicas", "usage_by_model"),
)


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The sum of several processes' figures."""
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


def settled(snapshot: Snapshot) -> Snapshot:
    """The counts of a process that is gone, without what it held."""
    copy = merge([snapshot])
    copy.waiting = copy.active = 0
    copy.replicas.clear()
    copy.shared = Counter({k: n for k, n in copy.shared.items() if k in store_metrics.SHARED})
    kept = copy.representations.items()
    copy.representations = Counter({k: n for k, n in kept if k[1] in store_metrics.REPRESENTATIONS})
    return copy


def usage_of(snapshot: Snapshot, key: str) -> dict[str, int]:
    """What the client of that name has used."""
    return {what: snapshot.usage[key, what] for what in USAGE}


def key_names(snapshot: Snapshot) -> list[str]:
    """The names of the clients that used anything."""
    return sorted({name for name, _ in snapshot.usage})
