"""`make test` runs two processes (pytest-xdist), a file's tests all in one of them."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process has one core to itself. Torch reads this when it is imported.
    os.environ["OMP_NUM_THREADS"] = "1"
