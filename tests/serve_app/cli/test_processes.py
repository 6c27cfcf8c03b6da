"""Finding the processes of a service, and collecting those whose parent has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli import processes

# Starts a process that ends at once, and whose child ends a moment later as an orphan.
ADOPT = """
import subprocess, sys, time
import psutil
from serve_app.cli import processes
processes.adopt_orphans()
child = "import time; time.sleep(0.5)"
parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
subprocess.run([sys.executable, "-c", parent], check=True)
me = psutil.Process()
(orphan,) = me.children()
waited_for = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
while orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
    time.sleep(0.05)
processes.reap(waited_for.pid)
assert [child.pid for child in me.children()] == [waited_for.pid], me.children()
waited_for.kill()
while psutil.Process(waited_for.pid).status() != psutil.STATUS_ZOMBIE:
    time.sleep(0.05)
processes.reap(waited_for.pid)
assert waited_for.wait() == -9
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has subreapers")
def test_orphans_are_adopted_and_collected() -> None:
    subprocess.run([sys.executable, "-c", ADOPT], check=True, timeout=60)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_processes_that_have_overwritten_their_environment_are_found(tmp_path: Path) -> None:
    # As setproctitle does: the first entries become empty.
    overwrite = """
import ctypes, time
environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
ctypes.memset(ctypes.cast(environ, ctypes.POINTER(ctypes.c_void_p))[0], 0, 8)
print("done", flush=True)
time.sleep(600)
"""
    env = {"A_FIRST_ONE": "x" * 20, **os.environ, processes.MARK: str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", overwrite], env=env, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert [found.pid for found in processes.marked()[tmp_path]] == [process.pid]
        assert processes.kill(tmp_path) == 1
