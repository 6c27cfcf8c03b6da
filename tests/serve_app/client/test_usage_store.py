"""Usage stores shared by threads and processes."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from serve_app.client import TokenUsageTracker

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
