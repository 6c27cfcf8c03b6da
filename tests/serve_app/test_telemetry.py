"""Figures add up over processes, and Prometheus' own parser reads them."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_app.telemetry import Snapshot, Telemetry, merge, to_json, to_prometheus


def filled(times: list[float]) -> Snapshot:
    telemetry = Telemetry()
    for seconds in times:
        telemetry.record_request('m"\n', 200, 0.001, seconds)
    telemetry.record_request("m", 503, 0.0, 0.5)
    telemetry.record_http("v1", 200)
    telemetry.record_pairs(tokens=10, hits=3, misses=1, deduplicated=2)
    return telemetry.snapshot(waiting=1, active=2)


def test_merged_figures_are_those_of_one_process_that_saw_all() -> None:
    times = [i / 1000 for i in range(1, 200)]
    merged = merge([filled(times[::2]), filled(times[1::2])])
    body = to_json(merged)
    assert body["total_requests"] == 201
    assert body["success_rate"] == pytest.approx(199 / 201)
    assert body["process_time_ms"]["p50"] == pytest.approx(100, rel=0.12)
    assert body["process_time_ms"]["p99"] == pytest.approx(198, rel=0.12)
    assert body["cache"]["hit_rate"] == 0.75
    assert (body["waiting"], body["active"]) == (2, 4)


def test_prometheus_text_is_valid_and_cumulative() -> None:
    text = to_prometheus(filled([0.0005, 0.02, 500.0])).decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    samples = families["rerank_process_seconds"].samples
    buckets = [s.value for s in samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 4
    assert families["rerank_cache_hits"].samples[0].labels == {"tier": "memory"}


def test_no_requests_is_no_division_by_zero() -> None:
    assert to_json(Snapshot())["success_rate"] == 1.0
    assert to_prometheus(Snapshot())
