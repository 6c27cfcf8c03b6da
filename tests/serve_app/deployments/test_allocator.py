"""Memory that is given back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Frees 2 MiB blocks, the first of which raises glibc's threshold for memory of their size, while a
# small block above them keeps the heap from shrinking.
PROGRAM = """
import os, sys
from serve_app.deployments.allocator import return_large_blocks

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if sys.argv[1] == "fixed":
    return_large_blocks()
first = b"x" * 2**22
del first
before = resident()
blocks = [(b"x" * 2**21, b"y" * 60_000) for _ in range(20)]
kept = [small for _, small in blocks]
del blocks
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_large_blocks_are_returned_to_the_system() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "fixed"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 10 * 2**20
