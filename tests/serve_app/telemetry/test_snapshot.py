"""Merging the snapshots of several processes."""

from __future__ import annotations

import pytest

from serve_app.telemetry import Snapshot, merge, to_json, to_prometheus
from tests.serve_app.telemetry.fakes import filled


def test_merged_snapshots_equal_one_process_that_counted_everything() -> None:
    times = [i / 1000 for i in range(1, 200)]
    merged = merge([filled(times[::2]), filled(times[1::2])])
    body = to_json(merged)
    assert body["total_requests"] == 201
    assert body["success_rate"] == pytest.approx(199 / 201)
    assert body["process_time_ms"]["p50"] == pytest.approx(100, rel=0.12)
    assert body["process_time_ms"]["p99"] == pytest.approx(198, rel=0.12)
    assert body["cache"]["hit_rate"] == 0.75
    assert (body["waiting"], body["active"]) == (2, 4)


def test_model_events_add_up_across_processes() -> None:
    one, other = Snapshot(), Snapshot()
    one.model_events["cohere", "calls"] = 2
    other.model_events["cohere", "calls"] = 3
    other.model_events["cohere", "retries"] = 1
    total = merge([one, other])
    assert to_json(total)["upstream_by_model"] == {"cohere": {"calls": 5, "retries": 1}}
    text = to_prometheus(total).decode()
    assert 'rerank_upstream_total{model="cohere",event="calls"} 5' in text
