"""The background process: its process ID and its log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.cli import daemon

PORT = 8099


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return daemon.state_dir()


def test_a_running_process_is_found_by_its_port() -> None:
    assert daemon.running_pid(PORT) is None
    daemon.write_pid(PORT)
    assert daemon.running_pid(PORT) == os.getpid()
    assert daemon.running_pid(PORT + 1) is None
    daemon.remove_pid(PORT)
    daemon.remove_pid(PORT)
    assert daemon.running_pid(PORT) is None


def test_a_stale_or_broken_pid_file_means_that_nothing_runs(state: Path) -> None:
    exited = subprocess.Popen([sys.executable, "-c", ""])
    exited.wait()
    for content in (str(exited.pid), "", "not a number"):
        (state / f"{PORT}.pid").write_text(content)
        assert daemon.running_pid(PORT) is None


def test_following_the_log_ends_when_the_service_exits() -> None:
    daemon.write_pid(PORT)
    with daemon.log_path(PORT).open("w") as log:
        log.write("first\n")
        log.flush()
        lines = daemon.read_log(PORT, follow=True)
        assert next(lines) == "first\n"
        log.write("second\n")
        log.flush()
        assert next(lines) == "second\n"
    daemon.remove_pid(PORT)
    assert list(lines) == []


def test_without_follow_the_log_ends_while_the_service_runs() -> None:
    daemon.write_pid(PORT)
    daemon.log_path(PORT).write_bytes(b"one\n\xff\n")
    assert list(daemon.read_log(PORT, follow=False)) == ["one\n", "\ufffd\n"]
