"""A snapshot as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.engine_stats import COUNTS, Distribution
from serve_app.telemetry import store_metrics, usage
from serve_app.telemetry.histogram import Histogram
from serve_app.telemetry.metrics import DISTRIBUTIONS, PAIRS
from serve_app.telemetry.snapshot import Snapshot, key_names, usage_of


def to_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return totals, success rate and durations in milliseconds, overall and by model."""
    total = snapshot.requests.total()
    successful = sum(n for (_, _, status), n in snapshot.requests.items() if status < 400)
    counts = {what: _total(snapshot, what) for what in (*PAIRS, "hits", "shared_hits")}
    looked_up = counts["hits"] + counts["misses"]
    return {
        "total_requests": total,
        "successful_requests": successful,
        "failed_requests": total - successful,
        "success_rate": successful / total if total else 1.0,
        "wait_time_ms": _times(_merged(snapshot.wait.values())),
        "process_time_ms": _times(_merged(snapshot.process.values())),
        "documents": counts["documents"],
        "tokens": counts["tokens"],
        "cached_tokens": counts["cached_tokens"],
        "cache": {
            "hits": counts["hits"],
            "shared_hits": counts["shared_hits"],
            "misses": counts["misses"],
            "hit_rate": counts["hits"] / looked_up if looked_up else 0.0,
            "deduplicated": counts["deduplicated"],
        },
        "shared_store": store_metrics.shared_json(snapshot.shared),
        "representations": store_metrics.representations_json(snapshot.representations),
        "waiting": snapshot.waiting,
        "active": snapshot.active,
        "requests_by_model": _summed(snapshot.requests, 1),
        "requests_by_dialect": _summed(snapshot.requests, 0),
        "responses_by_dialect": _grouped(snapshot.http),
        "models": _models(snapshot),
        "upstream_by_model": _grouped(snapshot.model_events),
        "usage_by_key": {name: usage_of(snapshot, name) for name in key_names(snapshot)},
        **usage.to_json(snapshot.usage_by_model),
    }


def _models(snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """Durations, pairs and replica measurements, by model."""
    owners = (snapshot.engine, snapshot.pairs, snapshot.distributions)
    names = {model for owner in owners for model, _ in owner}
    return {name: _model(snapshot, name) for name in sorted(names | set(snapshot.process))}


def _model(snapshot: Snapshot, name: str) -> dict[str, Any]:
    measured = {
        what: _summary(one)
        for (model, what), one in snapshot.distributions.items()
        if model == name
    }
    rows = {what: snapshot.engine[name, what] for what in COUNTS}
    run = rows["tokens"] + rows["padding_tokens"]
    return {
        "replicas": snapshot.replicas[name],
        "wait_time_ms": _times(snapshot.wait.get(name, Histogram())),
        "process_time_ms": _times(snapshot.process.get(name, Histogram())),
        **{what: snapshot.pairs[name, what] for what in (*PAIRS, "hits", "shared_hits")},
        "engine": {**rows, "padding_share": rows["padding_tokens"] / run if run else 0.0},
        "measured": {what: measured[what] for what in DISTRIBUTIONS if what in measured},
    }


def _total(snapshot: Snapshot, what: str) -> int:
    return sum(number for (_, counted), number in snapshot.pairs.items() if counted == what)


def _merged(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for histogram in histograms:
        total.merge(histogram)
    return total


def _summary(distribution: Distribution) -> dict[str, float]:
    total = distribution.total
    return {
        "count": total,
        "sum": round(distribution.sum, 6),
        "average": round(distribution.sum / total, 6) if total else 0.0,
    }


def _times(histogram: Histogram) -> dict[str, float]:
    average = histogram.sum_s / histogram.total if histogram.total else 0.0
    values = {"average": average, **{f"p{q}": histogram.quantile(q / 100) for q in (50, 95, 99)}}
    return {name: round(seconds * 1000, 3) for name, seconds in values.items()}


def _summed(counts: Mapping[tuple[str, str, int], int], place: int) -> dict[str, dict[str, int]]:
    """Sum requests by status and one of the first two labels (`place`)."""
    found: dict[tuple[str, int], int] = {}
    for key, number in counts.items():
        pair = (str(key[place]), key[2])
        found[pair] = found.get(pair, 0) + number
    return _grouped(found)


def _grouped(counts: Mapping[tuple[str, Any], int]) -> dict[str, dict[str, int]]:
    grouped: dict[str, dict[str, int]] = {}
    for (name, status), number in sorted(counts.items()):
        grouped.setdefault(name, {})[str(status)] = number
    return grouped
