"""A missing program skips a test, or stops `make test-all`, with what to install."""

from __future__ import annotations

import os

import pytest

from tests import programs
from tests.conftest import NEEDS


def test_a_test_without_its_program_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find", lambda name: None)
    with pytest.raises(pytest.skip.Exception) as skipped:
        programs.need("promtool")
    assert NEEDS.fullmatch(str(skipped.value))
    assert str(skipped.value) == "needs promtool: apt-get install prometheus"


def test_without_root_the_command_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(programs, "_of_system", lambda name: None)
    assert programs.install() == 1
    packages = " ".join(sorted(set(programs.PACKAGES.values())))
    assert f"sudo apt-get install -y --no-install-recommends {packages}" in capsys.readouterr().err
