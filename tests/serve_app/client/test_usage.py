"""Usage tracking: concurrency, prices, callbacks and export."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serve_app.client import Price, TokenUsageTracker, Usage

ROUNDS, WORKERS = 50, 4


def add(tracker: TokenUsageTracker) -> None:
    for _ in range(ROUNDS):
        tracker.record("tool", "m", 3)


def add_to_file(path: Path) -> None:
    add(TokenUsageTracker(path=path))


@pytest.mark.parametrize("shared", [False, True])
def test_threads_can_record_concurrently(shared: bool, tmp_path: Path) -> None:
    tracker = TokenUsageTracker(path=tmp_path / "usage" if shared else None)
    threads = [threading.Thread(target=add, args=(tracker,)) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (row,) = tracker.snapshot().rows
    assert (row.tokens, row.requests) == (3 * ROUNDS * WORKERS, ROUNDS * WORKERS)


def test_processes_can_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "usage"
    tracker = TokenUsageTracker(path=path)
    tracker.record("tool", "m", 1)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=add_to_file, args=(path,)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * WORKERS
    assert tracker.snapshot().tokens == 3 * ROUNDS * WORKERS + 1
    assert tracker.reset().requests == ROUNDS * WORKERS + 1
    assert TokenUsageTracker(path=path).snapshot().rows == ()


# Run in a separate process: Python warns about forking a test runner that has threads.
FORK = """
import os, threading
from serve_app.client import TokenUsageTracker
tracker = TokenUsageTracker()
tracker.record("t", "m", 1)
held, done = threading.Event(), threading.Event()
def hold():
    with tracker._store._lock:
        held.set(); done.wait()
threading.Thread(target=hold).start()
held.wait()
if (child := os.fork()) == 0:
    tracker.record("t", "m", 1)
    os._exit(tracker.snapshot().tokens)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
done.set()
print(status, tracker.snapshot().tokens)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is not available")
def test_a_fork_does_not_inherit_a_held_lock() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["2", "1"]


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
