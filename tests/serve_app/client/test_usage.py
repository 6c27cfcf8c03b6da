"""Usage tracking: prices, callbacks and export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from serve_app.client import Price, TokenUsageTracker, Usage


def test_costs_follow_the_price_table() -> None:
    prices = {"m": Price(per_million_tokens=0.5), "s": Price(per_thousand_requests=2.0)}
    tracker = TokenUsageTracker(prices=prices)
    tracker.record("a", "m", 2_000_000)
    tracker.record("a", "s", 10)
    tracker.record("b", "free", 7)
    found = tracker.snapshot()
    assert [(row.model, row.cost) for row in found.rows] == [
        ("m", 1.0),
        ("s", 0.002),
        ("free", None),
    ]
    assert (found.tokens, found.requests, found.cost) == (2_000_017, 3, pytest.approx(1.002))
    assert "free" in str(found).splitlines()[-1]
    tracker.set_price("free", Price(per_million_tokens=1e6))
    assert tracker.snapshot().rows[-1].cost == 7.0


def test_callbacks_receive_each_record(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Usage] = []

    def broken(used: Usage) -> None:
        raise RuntimeError("mine")

    tracker = TokenUsageTracker(callbacks=[broken, seen.append])
    tracker.record("t", "m", 4)
    more: list[Usage] = []
    stop = tracker.subscribe(more.append)
    tracker.record("t", "m", 5)
    stop()
    stop()
    tracker.record("t", "m", 6)
    assert [used.tokens for used in seen] == [4, 5, 6]
    assert [used.tokens for used in more] == [5]
    assert tracker.snapshot().tokens == 15
    assert "usage callback failed" in caplog.text


def test_export_as_jsonl(tmp_path: Path) -> None:
    tracker = TokenUsageTracker(prices={"m": Price(1.0)})
    tracker.record("b", "m", 1)
    tracker.record("a", "é", 2, requests=3)
    path = tmp_path / "usage.jsonl"
    assert tracker.export_jsonl(path) == 2
    assert tracker.export_jsonl(path, append=True) == 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"tool": "a", "model": "é", "tokens": 2, "requests": 3, "cost": None}
    assert lines == lines[:2] * 2
