"""Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from collections.abc import Iterator

from models.engine_stats import Distribution
from serve_app.telemetry.metrics import Family, Labels, families
from serve_app.telemetry.snapshot import Snapshot


def to_prometheus(snapshot: Snapshot) -> bytes:
    """All metrics of the snapshot."""
    lines = (line for family in families(snapshot) for line in _lines(family))
    return ("\n".join(lines) + "\n").encode()


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.text}"
    yield f"# TYPE {family.name} {family.kind}"
    for values, number in family.numbers.items():
        yield f"{family.name}{_labels(family.labels, values)} {number}"
    for values, distribution in family.distributions.items():
        yield from _histogram(family, values, distribution)


def _histogram(family: Family, values: Labels, distribution: Distribution) -> Iterator[str]:
    seen = 0
    for bound, count in zip((*distribution.bounds, "+Inf"), distribution.counts, strict=True):
        seen += count
        labels = _labels((*family.labels, "le"), (*values, str(bound)))
        yield f"{family.name}_bucket{labels} {seen}"
    labels = _labels(family.labels, values)
    yield f"{family.name}_sum{labels} {distribution.sum}"
    yield f"{family.name}_count{labels} {seen}"


def _labels(names: Labels, values: Labels) -> str:
    pairs = [f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escape(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
