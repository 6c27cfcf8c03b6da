"""Values reported to Ray's metrics."""

from __future__ import annotations

from models.engine_stats import Distribution
from serve_app.telemetry.ray_metrics import new_values


def test_values_reported_to_ray_land_in_the_same_buckets() -> None:
    own, reported = Distribution((1, 2, 4)), Distribution((1, 2, 4))
    for value in (0.1, 1, 1.5, 3, 3, 9):
        own.add(value)
    for value in new_values(own, [0, 0, 0, 0]):
        reported.add(value)
    assert reported.counts == own.counts
    assert list(new_values(own, own.counts)) == []
