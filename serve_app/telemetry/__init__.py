"""Counts and times that add up exactly over processes: JSON, Prometheus, Ray's metrics."""

from serve_app.telemetry.histogram import Histogram
from serve_app.telemetry.json_report import to_json
from serve_app.telemetry.metrics import Family, families
from serve_app.telemetry.prometheus import to_prometheus
from serve_app.telemetry.recorder import MAX_KEY_NAMES, OTHER_KEYS, Telemetry
from serve_app.telemetry.snapshot import USAGE, Snapshot, merge, settled, usage_of

__all__ = [
    "MAX_KEY_NAMES",
    "OTHER_KEYS",
    "USAGE",
    "Family",
    "Histogram",
    "Snapshot",
    "Telemetry",
    "families",
    "merge",
    "settled",
    "to_json",
    "to_prometheus",
    "usage_of",
]
