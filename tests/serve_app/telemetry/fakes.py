"""Snapshots that the tests of several modules share."""

from __future__ import annotations

from collections import Counter

from serve_app.telemetry import Snapshot, Telemetry

CACHED = Counter({("m", "hits"): 7, ("m", "bytes"): 800})
SHARED = {"hits": 5, "dropped": 2, "breaker_open": 1, "queued": 9}


def filled(times: list[float]) -> Snapshot:
    telemetry = Telemetry()
    for seconds in times:
        telemetry.record_request("native", 'm"\n', 200, 0.001, seconds)
    telemetry.record_request("handle", "m", 503, 0.0, 0.5)
    telemetry.record_http("v1", 200)
    telemetry.record_pairs("m", tokens=10, hits=3, misses=1, deduplicated=2)
    return telemetry.snapshot(waiting=1, active=2)
