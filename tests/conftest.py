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
    """What is logged under Ray Serve's name, which Ray keeps from other handlers once imported."""
    logger = logging.getLogger("ray.serve")
    monkeypatch.setattr(logger, "disabled", False)
    with caplog.at_level(logging.INFO, "ray.serve"):
        logger.addHandler(caplog.handler)
        yield caplog
        logger.removeHandler(caplog.handler)


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
