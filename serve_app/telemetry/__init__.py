"""Counts and durations that merge exactly across processes: JSON, Prometheus, Ray's metrics."""

from serve_app.telemetry.histogram import Histogram
from serve_app.telemetry.json_report import to_json
from serve_app.telemetry.metrics import Metric, all_metrics
from serve_app.telemetry.prometheus import to_prometheus
from serve_app.telemetry.recorder import Telemetry
from serve_app.telemetry.snapshot import (
    USAGE,
    Snapshot,
    merge,
    since,
    usage_of,
    with_few_keys,
    without_gauges,
)
from serve_app.telemetry.usage import MAX_KEY_NAMES, OTHER_KEYS

__all__ = [
    "MAX_KEY_NAMES",
    "OTHER_KEYS",
    "USAGE",
    "Histogram",
    "Metric",
    "Snapshot",
    "Telemetry",
    "all_metrics",
    "merge",
    "since",
    "to_json",
    "to_prometheus",
    "usage_of",
    "with_few_keys",
    "without_gauges",
]
