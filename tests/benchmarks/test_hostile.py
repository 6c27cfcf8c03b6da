"""The rows of `benchmarks.hostile`, and how it sends slow requests."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import hostile, probe
from benchmarks.hostile import HEAD, HELD, REPLACED, Row
from benchmarks.hostile_bodies import Case, Sending
from benchmarks.raw_http import Request
from benchmarks.service_processes import INGRESS, REPLICA, Figures
from tests.benchmarks.byte_server import byte_server

MB = 10**6


def _figures(resident_mb: int, peak_mb: int) -> Figures:
    return Figures(0, resident_mb * MB, peak_mb * MB, 10, 3)


def test_a_row_has_a_cell_for_each_column() -> None:
    small = probe.Seen(probe.Waits(0.0123, 40), probe.Waits(1.5, 8, Counter({"429": 2})))
    peaks = {INGRESS: "+583", REPLICA: REPLACED}
    row = Row("name", "what it is", Counter({"200": 1}), 3.14159, small, peaks, "+4")
    cells = "| name: what it is | 200 | 3.1 | 12 | 1500 | 2 of 48: 2 × 429 | +583 | replaced | +4 |"
    assert row.cells() == cells
    assert cells.count("|") == HEAD.count("|")


def test_several_statuses_are_counted() -> None:
    small, peaks = probe.Seen(), {INGRESS: "+0", REPLICA: "+0"}
    row = Row("a", "b", Counter({"429": 832, "200": 60}), 1, small, peaks, "+0")
    assert "| 60 × 200, 832 × 429 |" in row.cells()


def test_peaks_count_from_the_memory_before() -> None:
    before = {1: (INGRESS, _figures(228, 300)), 2: (REPLICA, _figures(500, 500))}
    after = {1: (INGRESS, _figures(400, 811)), 3: (REPLICA, _figures(500, 500))}
    assert hostile.growth(INGRESS, before, after) == "+583"
    assert hostile.growth(REPLICA, before, after) == REPLACED
    assert hostile.growth(REPLICA, {}, {}) == REPLACED


@pytest.mark.parametrize(
    ("sending", "sent"),
    [
        (Sending.UNFINISHED, b"content-length: 4\r\nconnection: close\r\n\r\nbod"),
        (Sending.DRIPPING_BODY, b"content-length: 4\r\nconnection: close\r\n\r\nb"),
        (Sending.DRIPPING_HEADERS, b"content-length: 4\r\nconnection: close\r\nx-drop: 0\r\n"),
    ],
)
async def test_slow_requests_stay_unfinished(sending: Sending, sent: bytes) -> None:
    request = Request("/", b"body")
    case = Case("slow", lambda: request, copies=2, sending=sending)
    async with byte_server(None) as (url, seen):
        assert await hostile.send(url, case, request, 5, 0.1) == {HELD: 2}
    assert len(seen) == 2
    assert all(data.endswith(sent) for data in seen)


def test_what_the_probe_prints_can_be_read() -> None:
    printed = {
        "cached": {"longest_s": 0.1, "requests": 3, "failed": {}},
        "scored": {"longest_s": 0.2, "requests": 2, "failed": {"timed out": 1}},
    }
    seen = probe.Seen.of(printed)
    assert (seen.requests, seen.failed) == (5, {"timed out": 1})
