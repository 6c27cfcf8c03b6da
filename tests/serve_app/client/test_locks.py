"""Locks across a fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
