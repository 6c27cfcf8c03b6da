"""Metrics add up across processes, and Prometheus' own parser accepts them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from models.engine_stats import Distribution, EngineStats
from serve_app.deployments.metrics_hub import GONE_AFTER_S, MetricsHub
from serve_app.telemetry import (
    Snapshot,
    Telemetry,
    all_metrics,
    merge,
    to_json,
    to_prometheus,
    without_gauges,
)
from serve_app.telemetry.metrics import table
from serve_app.telemetry.ray_metrics import new_values
from serve_app.telemetry.replica_recorder import ReplicaRecorder
from tests.serve_app.fakes import Clock

ROOT = Path(__file__).parents[3]


def filled(times: list[float]) -> Snapshot:
    telemetry = Telemetry()
    for seconds in times:
        telemetry.record_request("native", 'm"\n', 200, 0.001, seconds)
    telemetry.record_request("handle", "m", 503, 0.0, 0.5)
    telemetry.record_http("v1", 200)
    telemetry.record_pairs("m", tokens=10, hits=3, misses=1, deduplicated=2)
    return telemetry.snapshot(waiting=1, active=2)


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


def test_prometheus_text_is_valid_and_cumulative() -> None:
    text = to_prometheus(filled([0.0005, 0.02, 500.0])).decode()
    families = {f.name: f for f in text_string_to_metric_families(text)}
    samples = families["rerank_process_seconds"].samples
    for model, total in (("m", 1), ('m"\n', 3)):
        mine = [s for s in samples if s.labels["model"] == model]
        buckets = [s.value for s in mine if s.name.endswith("_bucket")]
        assert buckets == sorted(buckets)
        assert buckets[-1] == total
    assert families["rerank_cache_hits"].samples[0].labels == {"model": "m", "tier": "memory"}


def test_an_empty_snapshot_does_not_divide_by_zero() -> None:
    assert to_json(Snapshot())["success_rate"] == 1.0
    assert to_prometheus(Snapshot())


SHARED = {"hits": 5, "dropped": 2, "breaker_open": 1, "queued": 9}
CACHED = Counter({("m", "hits"): 7, ("m", "bytes"): 800})


def test_hits_are_reported_by_tier_and_by_model() -> None:
    telemetry = Telemetry()
    telemetry.record_pairs("m", tokens=10, hits=5, shared_hits=2, misses=1, deduplicated=0)
    own = telemetry.snapshot(shared=SHARED)
    both = merge([own, own, Snapshot(representations=CACHED), Snapshot(representations=CACHED)])
    body = to_json(both)
    assert (body["cache"]["hits"], body["cache"]["shared_hits"]) == (10, 4)
    assert body["shared_store"]["dropped"] == 4
    assert body["representations"]["m"]["bytes"] == 1600
    families = {f.name: f for f in text_string_to_metric_families(to_prometheus(both).decode())}
    tiers = {s.labels["tier"]: s.value for s in families["rerank_cache_hits"].samples}
    assert tiers == {"memory": 6, "redis": 4}
    assert families["rerank_redis_breaker_open"].type == "gauge"
    assert families["rerank_redis_breaker_open"].samples[0].value == 2
    (hits,) = families["rerank_representations_hits"].samples
    assert (hits.labels, hits.value) == ({"model": "m"}, 14)


async def test_an_exited_process_keeps_its_counters_and_loses_its_gauges() -> None:
    clock = Clock()
    hub = MetricsHub(clock)
    gone = Telemetry().snapshot(waiting=3, active=2, shared=SHARED)
    gone.representations.update(CACHED)
    await hub.report("gone", gone, {})
    assert merge(await hub.report("here", Snapshot(), {})).waiting == 3
    clock.now += GONE_AFTER_S
    left = merge(await hub.report("here", Snapshot(active=1), {}))
    assert (left.waiting, left.active) == (0, 1)
    assert left.shared == Counter({"hits": 5, "dropped": 2})
    assert left.representations == Counter({("m", "hits"): 7})


def test_the_documented_metrics_are_the_exported_ones() -> None:
    document = (ROOT / "docs" / "observability.md").read_text()
    assert table() in document
    exported = text_string_to_metric_families(to_prometheus(filled([0.1])).decode())
    names = {metric.name.removesuffix("_total") for metric in all_metrics(Snapshot())}
    assert {metric.name for metric in exported} == names


def test_values_reported_to_ray_land_in_the_same_buckets() -> None:
    own, reported = Distribution((1, 2, 4)), Distribution((1, 2, 4))
    for value in (0.1, 1, 1.5, 3, 3, 9):
        own.add(value)
    for value in new_values(own, [0, 0, 0, 0]):
        reported.add(value)
    assert reported.counts == own.counts
    assert list(new_values(own, own.counts)) == []


async def test_replica_measurements_add_up_by_model() -> None:
    hub, engine = MetricsHub(), EngineStats()
    engine.add(rows=4, tokens=90, padding=10, seconds=0.02)
    recorder = ReplicaRecorder("m")
    recorder.add("batch_calls", 2)
    await hub.report("one", recorder.snapshot(engine), {})
    both = merge(await hub.report("other", recorder.snapshot(engine), {}))
    model = to_json(both)["models"]["m"]
    assert (model["replicas"], model["engine"]["rows"]) == (2, 8)
    assert model["engine"]["padding_share"] == 0.1
    assert model["measured"]["batch_calls"] == {"count": 2, "sum": 4, "average": 2}
    assert model["measured"]["forward_seconds"]["count"] == 2
    assert without_gauges(both).replicas == {}
    assert without_gauges(both).engine == both.engine
