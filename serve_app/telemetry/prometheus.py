"""A snapshot in Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator

from models.engine_stats import Distribution
from serve_app.telemetry.metrics import Labels, Metric, all_metrics
from serve_app.telemetry.snapshot import Snapshot


def to_prometheus(snapshot: Snapshot) -> bytes:
    """Return all metrics of the snapshot."""
    lines = (line for metric in all_metrics(snapshot) for line in _lines(metric))
    return ("\n".join(lines) + "\n").encode()


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.name} {metric.text}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for values, number in metric.numbers.items():
        yield f"{metric.name}{_labels(metric.labels, values)} {number}"
    for values, distribution in metric.distributions.items():
        yield from _histogram(metric, values, distribution)


def _histogram(metric: Metric, values: Labels, distribution: Distribution) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*distribution.bounds, "+Inf"), distribution.counts, strict=True):
        seen += count
        labels = _labels((*metric.labels, "le"), (*values, str(bound)))
        yield f"{metric.name}_bucket{labels} {seen}"
    labels = _labels(metric.labels, values)
    yield f"{metric.name}_sum{labels} {distribution.sum}"
    yield f"{metric.name}_count{labels} {seen}"


def _labels(names: Labels, values: Labels) -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
