"""The watchdog exits a hanging process."""

from __future__ import annotations

import subprocess
import sys
import time

from serve_app.deployments.watchdog import Watchdog

PROGRAM = """
import time
from serve_app.deployments import watchdog
watchdog.GRACE_S = 0.1
with watchdog.Watchdog(5).watching("one"):
    pass
watched = watchdog.Watchdog(0.5)
with watched.watching("other"):
    {what}
"""


def _run(what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(what=what)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_a_hanging_process_exits_and_logs_its_stack() -> None:
    done = _run("time.sleep(20)")
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert 'File "<string>"' in done.stderr


def test_it_exits_even_if_a_library_holds_the_interpreter_lock() -> None:
    # A single C call that never releases the lock.
    assert _run("sum(range(10**11))").returncode == 1


def test_a_process_that_finishes_in_time_is_not_affected() -> None:
    assert _run("pass").returncode == 0


def test_a_process_that_makes_progress_is_not_affected() -> None:
    progress = "[(time.sleep(0.1), watched.progress(i)) for i in range(15)]"
    assert _run(progress).returncode == 0


def test_it_says_what_hangs() -> None:
    watched = Watchdog(0.01)
    assert watched.hanging() is None
    with watched.watching("one"), watched.watching("other"):
        watched.progress("one")
        time.sleep(0.05)
        assert watched.hanging() == "one"
    assert watched.hanging() is None
