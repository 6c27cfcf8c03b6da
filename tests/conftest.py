"""`make test` runs two processes (pytest-xdist), a file's tests all in one of them."""

from __future__ import annotations

import os
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process has one core to itself. Torch reads this when it is imported.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Files apart, but all that start Ray in one process: one cluster at a time."""
    from xdist.scheduler import LoadFileScheduling

    class RayTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/e2e/"):
                return "tests/e2e"
            scope: str = super()._split_scope(nodeid)
            return scope

    return RayTogether(config, log)
