"""Counts and durations that merge exactly across processes: JSON, Prometheus, Ray's metrics."""

from serve_app.telemetry.histogram import Histogram
from serve_app.telemetry.json_report import to_json
from serve_app.telemetry.metrics import Metric, all_metrics
from serve_app.telemetry.prometheus import to_prometheus
from serve_app.telemetry.recorder import MAX_KEY_NAMES, OTHER_KEYS, Telemetry
from serve_app.telemetry.snapshot import USAGE, Snapshot, merge, usage_of, without_gauges

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
    "to_json",
    "to_prometheus",
    "usage_of",
    "without_gauges",
]
