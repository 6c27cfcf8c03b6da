"""Options of the whole suite, the summary of skipped tests, and how two processes share the work.

With `--no-skips` a test that would be skipped fails instead.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process has one core to itself. Torch reads this when it is imported.
    os.environ["OMP_NUM_THREADS"] = "1"

# As `tests.programs.need` says it.
NEEDS = re.compile(r"needs \S+: apt-get install [\w-]+")


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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail where a test would be skipped")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("no_skips"):
        assert isinstance(report.longrepr, tuple)
        report.outcome = "failed"
        report.longrepr = report.longrepr[2]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each missing program: how many tests it skipped, and how to install it."""
    reasons = (str(report.longrepr) for report in terminalreporter.getreports("skipped"))
    missing = Counter(found[0] for reason in reasons if (found := NEEDS.search(reason)))
    for reason, count in sorted(missing.items()):
        terminalreporter.write_line(f"{count} skipped: {reason}", yellow=True)


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
