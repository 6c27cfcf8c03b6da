"""Prometheus' own parser accepts the exported text."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from serve_app.telemetry import to_prometheus
from tests.serve_app.telemetry.fakes import filled


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
