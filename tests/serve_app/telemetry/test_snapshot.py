"""Merging the snapshots of several processes."""

from __future__ import annotations

from collections import Counter

import pytest

from serve_app.telemetry import Snapshot, merge, since, to_json, to_prometheus
from tests.serve_app.telemetry.fakes import CACHED, SHARED, filled


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


def test_what_was_counted_since_an_earlier_snapshot() -> None:
    earlier, now = filled([0.1]), filled([0.1, 0.2])
    earlier.shared.update(SHARED)
    now.shared.update({**SHARED, "hits": 9, "queued": 4})
    earlier.representations.update(CACHED)
    now.representations.update(CACHED)
    new = since(now, earlier)
    assert merge([earlier, new]).requests == now.requests
    assert new.process['m"\n'].total == new.process['m"\n'].shown.total == 1
    assert new.pairs.total() == 0
    assert (new.shared["hits"], new.shared["queued"]) == (4, 4)
    assert new.representations == Counter({("m", "hits"): 0, ("m", "bytes"): 800})
    assert (new.waiting, new.active) == (now.waiting, now.active)
