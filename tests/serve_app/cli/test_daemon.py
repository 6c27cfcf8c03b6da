"""The background process: its PID file, its log, and stopping it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from serve_app.cli import daemon
from serve_app.cli.daemon import PidFile, Running

PORT = 8099


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return daemon.state_dir()


def _running(pid: int, started: float | None = None) -> Running:
    created = psutil.Process(pid).create_time() if started is None else started
    return Running(pid, created, "rerank up", "/tmp/rerank-none")


@contextmanager
def _serving() -> Iterator[Running]:
    file = PidFile(PORT)
    service = _running(os.getpid())
    file.write(service)
    try:
        yield service
    finally:
        file.remove()


def test_a_running_service_is_found_by_its_port(state: Path) -> None:
    assert daemon.running(PORT) is None
    with _serving() as service:
        assert daemon.running(PORT) == service
        assert daemon.running(PORT + 1) is None
        with pytest.raises(BlockingIOError):
            PidFile(PORT)
    assert daemon.running(PORT) is None
    assert list(state.iterdir()) == []


def test_a_pid_file_whose_process_has_ended_means_that_nothing_runs(state: Path) -> None:
    for content in ("", "not json", f'{{"pid": {os.getpid()}, "started": 0}}'):
        (state / f"{PORT}.pid").write_text(content)
        assert daemon.running(PORT) is None
    PidFile(PORT).remove()


def test_a_pid_file_is_released_when_its_process_is_killed(state: Path) -> None:
    code = (
        "import os, signal; from serve_app.cli.daemon import *;"
        f"file = PidFile({PORT}); file.write(Running(os.getpid(), 0, '', ''));"
        "print('locked', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert daemon.running(PORT) is not None
        process.kill()
        process.wait()
    assert (state / f"{PORT}.pid").exists()
    assert daemon.running(PORT) is None


def test_terminating_stops_the_process_but_not_a_stranger_with_its_process_id() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    assert daemon.terminate(_running(stranger.pid, started=1.0), 5)
    assert stranger.poll() is None
    assert daemon.terminate(_running(stranger.pid), 20)
    assert stranger.poll() is not None
    assert daemon.terminate(_running(stranger.pid, started=1.0), 5)


def test_a_process_that_ignores_sigterm_is_reported() -> None:
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{ignoring}; print('on', flush=True); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not daemon.terminate(_running(process.pid), 0.2)
        process.kill()


def test_without_a_writable_state_folder_a_folder_of_this_user_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(daemon.tempfile, "tempdir", str(tmp_path))
    folder = daemon.state_dir()
    assert folder == tmp_path / f"rerank-serve-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(daemon.tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(daemon.NoStateFolder, match="XDG_STATE_HOME"):
        daemon.state_dir()
    assert daemon.running(PORT) is None


def test_a_user_without_a_home_has_a_state_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(daemon.Path, "home", no_home)
    monkeypatch.setattr(daemon.tempfile, "tempdir", str(tmp_path))
    assert daemon.state_dir().parent == tmp_path


def test_following_the_log_ends_when_the_service_exits() -> None:
    with daemon.log_path(PORT).open("w") as log:
        with _serving():
            log.write("first\n")
            log.flush()
            lines = daemon.read_log(PORT, follow=True)
            assert next(lines) == "first\n"
            log.write("second\n")
            log.flush()
            assert next(lines) == "second\n"
        assert list(lines) == []


def test_following_the_log_continues_in_the_next_file() -> None:
    path = daemon.log_path(PORT)
    path.write_text("first\n")
    with _serving():
        lines = daemon.read_log(PORT, follow=True)
        assert next(lines) == "first\n"
        path.rename(f"{path}.1")
        path.write_text("second\n")
        assert next(lines) == "second\n"
        lines.close()


def test_without_follow_the_log_ends_while_the_service_runs() -> None:
    with _serving():
        daemon.log_path(PORT).write_bytes(b"one\n\xff\n")
        assert list(daemon.read_log(PORT, follow=False)) == ["one\n", "\ufffd\n"]


def test_the_log_is_appended_to_and_rotated(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "8000.log"
    log.write_text("before\n")
    code = (
        "import subprocess, sys; from pathlib import Path; from serve_app.cli import daemon;"
        f"daemon.LOG_BYTES = 1000; log = daemon.LogFile(Path({str(log)!r})); print('printed');"
        "sys.stdout.flush(); subprocess.run(['sh', '-c', 'seq 2000; echo error >&2']); log.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    files = [log, log.with_name("8000.log.1"), log.with_name("8000.log.2")]
    assert sorted(log.parent.iterdir()) == files
    assert all(file.stat().st_size <= 1000 for file in files)
    assert log.read_text().endswith("2000\nerror\n")


def test_small_logs_keep_what_was_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    code = (
        "from pathlib import Path; from serve_app.cli import daemon;"
        f"log = daemon.LogFile(Path({str(log)!r})); print('after'); log.close()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert log.read_text() == "before\nafter\n"


@pytest.mark.parametrize("abstract", [False, True])
def test_readiness_is_reported_as_to_systemd(tmp_path: Path, abstract: bool) -> None:
    if abstract and not sys.platform.startswith("linux"):
        pytest.skip("abstract sockets exist only on Linux")
    name = f"rerank-test-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}" if abstract else str(tmp_path / "s"))
        listening.settimeout(5)
        daemon.notify("READY=1", f"@{name}" if abstract else str(tmp_path / "s"))
        assert listening.recv(100) == b"READY=1"
    daemon.notify("READY=1", None)
    daemon.notify("READY=1", str(tmp_path / "nobody listens here"))
