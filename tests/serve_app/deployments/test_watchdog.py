"""A process whose forward pass does not end, ends itself; a running replica's merging options."""

from __future__ import annotations

import subprocess
import sys

import pytest

from serve_app.deployments.replica import BatchOptions

PROGRAM = """
import time
from serve_app.deployments.watchdog import ended_after
with ended_after(5):
    pass
with ended_after(0.3):
    {what}
"""


def _run(what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM.format(what=what)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_it_ends_with_its_stack_in_the_log() -> None:
    done = _run("time.sleep(20)")
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert 'File "<string>"' in done.stderr


def test_also_where_a_library_holds_the_interpreters_lock() -> None:
    # One call of C code that never lets go of it.
    assert _run("sum(range(10**11))").returncode == 1


def test_what_ends_in_time_is_left_alone() -> None:
    assert _run("pass").returncode == 0


def test_merging_options() -> None:
    assert BatchOptions.of({}) == BatchOptions()
    assert BatchOptions.of({"window_ms": 5}).window_ms == 5
    for wrong in ({"window_ms": -1}, {"batch_tokens": 0}, {"windw_ms": 5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BatchOptions.of(wrong)
