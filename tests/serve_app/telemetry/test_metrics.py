"""All metrics: by tier and model, and as documented."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from serve_app.telemetry import Snapshot, Telemetry, all_metrics, merge, to_json, to_prometheus
from serve_app.telemetry.metrics import table
from tests.serve_app.telemetry.fakes import CACHED, SHARED, filled

ROOT = Path(__file__).parents[3]


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


def test_the_documented_metrics_are_the_exported_ones() -> None:
    document = (ROOT / "docs" / "observability.md").read_text()
    assert table() in document
    exported = text_string_to_metric_families(to_prometheus(filled([0.1])).decode())
    names = {metric.name.removesuffix("_total") for metric in all_metrics(Snapshot())}
    assert {metric.name for metric in exported} == names
