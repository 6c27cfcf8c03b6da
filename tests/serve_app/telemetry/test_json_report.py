"""The JSON report."""

from __future__ import annotations

from serve_app.telemetry import Snapshot, to_json, to_prometheus


def test_an_empty_snapshot_does_not_divide_by_zero() -> None:
    assert to_json(Snapshot())["success_rate"] == 1.0
    assert to_prometheus(Snapshot())
