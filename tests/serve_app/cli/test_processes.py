"""Adopting and collecting the processes whose parent has ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
