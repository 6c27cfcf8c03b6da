"""`make test` runs two processes (pytest-xdist), a file's tests all in one of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process has one core to itself. Torch reads this when it is imported.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def serve_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    """Capture the logs of `ray.serve`, which Ray hides from other handlers once it is imported."""
    logger = logging.getLogger("ray.serve")
    monkeypatch.setattr(logger, "disabled", False)
    with caplog.at_level(logging.INFO, "ray.serve"):
        logger.addHandler(caplog.handler)
        yield caplog
        logger.removeHandler(caplog.handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Distribute tests by file, with all of tests/e2e in one process: one Ray cluster at a time."""
    from xdist.scheduler import LoadFileScheduling

    class RayTogether(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith("tests/e2e/"):
                return "tests/e2e"
            scope: str = super()._split_scope(nodeid)
            return scope

    return RayTogether(config, log)
