"""The run folder, and clearing the ones that services left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cli import processes, run_folder


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_folder, "_bases", lambda: [tmp_path])
    monkeypatch.setattr(run_folder, "MAX_PATH", 500)
    return tmp_path


@pytest.fixture
def member(base: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a service whose run folder is `base / "rerank-left"`."""
    (base / "rerank-left").mkdir()
    (base / "rerank-left" / run_folder.OWNER).touch()
    with _start(base / "rerank-left") as process:
        yield process
        process.kill()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    # It starts a child in a session of its own, which outlives it.
    code = (
        "import subprocess, sys, time\n"
        "child = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "print(subprocess.Popen(child, start_new_session=True).pid, flush=True)\n"
        "time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, processes.MARK: str(folder)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) > 0
    return process


def test_the_folder_and_the_token_are_readable_by_their_user_alone() -> None:
    folder = run_folder.create()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.token.stat().st_mode & 0o777 == 0o600
    other = run_folder.create()
    assert len(folder.token.read_text()) == 64
    assert folder.token.read_text() != other.token.read_text()
    folder.remove()
    other.remove()
    assert not folder.path.exists()


def test_what_a_killed_service_left_is_cleared(base: Path, member: subprocess.Popen[bytes]) -> None:
    assert len(processes.marked()[base / "rerank-left"]) == 2
    (cleared,) = run_folder.clear_abandoned()
    assert "rerank-left" in cleared
    assert "killed 2 of its processes" in cleared
    assert member.poll() is not None
    assert base / "rerank-left" not in processes.marked()
    assert list(base.iterdir()) == []
    assert run_folder.clear_abandoned() == []


def test_processes_are_found_although_their_folder_is_gone(
    base: Path, member: subprocess.Popen[bytes]
) -> None:
    (base / "rerank-left" / run_folder.OWNER).unlink()
    (base / "rerank-left").rmdir()
    assert "killed 2" in run_folder.clear_abandoned()[0]
    assert member.poll() is not None


def test_a_running_service_and_other_folders_are_left_alone(base: Path) -> None:
    folder = run_folder.create()
    (base / "rerank-data").mkdir()
    with _start(folder.path) as process:
        assert run_folder.clear_abandoned() == []
        assert process.poll() is None
        assert processes.kill(folder.path, but=[process.pid]) == 1
        assert process.poll() is None
        assert processes.kill(folder.path) == 1
    folder.remove()
    assert [path.name for path in base.iterdir()] == ["rerank-data"]


def test_a_folder_with_a_long_path_or_that_is_not_writable_is_passed_over(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "file").touch()
    deep = base / ("d" * 200)
    deep.mkdir()
    monkeypatch.setattr(run_folder, "MAX_PATH", len(str(base)) + 40)
    monkeypatch.setattr(run_folder, "_bases", lambda: [deep, base / "file", base])
    folder = run_folder.create()
    assert folder.path.parent == base
    folder.remove()
    monkeypatch.setattr(run_folder, "_bases", lambda: [deep, base / "file"])
    with pytest.raises(run_folder.NoFolder, match="too long for a socket"):
        run_folder.create()
