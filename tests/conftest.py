"""Which tests stay together when the suite runs in several processes, and with how many threads.

`make test` runs two processes (pytest-xdist). A file's tests stay in one of them, so that its
fixtures are made once; files that share more say so by a group (`pytest.mark.xdist_group`), as
tests/e2e/conftest.py does. Groups are handed out in the order of the tests: those that start
services come first, so that none is left for the end.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each process has one core to itself. Torch reads this when it is imported.
    os.environ["OMP_NUM_THREADS"] = "1"


# First: xdist reads the groups in the same hook. A folder's own conftest.py comes before this one.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            name = item.path.relative_to(FOLDER).with_suffix("").as_posix()
            item.add_marker(pytest.mark.xdist_group(name))
