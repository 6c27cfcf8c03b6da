"""`rerank up` as the supervisor of its host process; here a small program stands in for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from serve_app.cli import processes
from serve_app.deployments.ports import free_port

# Runs `up.run` with the program HOST instead of the host process.
COMMAND = """
import sys
from serve_app.cli import up
from serve_app.settings import load
up.SHUTDOWN_S = 1.0
class Popen(up.subprocess.Popen):
    def __init__(self, command, **options):
        super().__init__([sys.executable, "-c", HOST], **options)
up.subprocess.Popen = Popen
settings = load({"port": PORT, "worker_timeout_s": 1}, {})
try:
    sys.exit(up.run(settings))
except up.StartError as error:
    sys.exit(str(error))
"""
# A host process with a child that ignores all signals, in a session of its own.
HOST = """
import os, signal, subprocess, sys, time
ignore = "import signal, time; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)]; "
child = ignore + "time.sleep(600)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
for number in (1, 2):
    signal.signal(number, lambda number, frame: print("signal", number, flush=True))
{more}
print("folder", os.environ["RERANK_SERVE_RUN"], flush=True)
time.sleep(600)
"""
STUBBORN = "signal.signal(15, lambda number, frame: print('asked to stop', flush=True))"


def _prepare(cgroup: Path | None) -> None:
    # Ignored where the tests run under nohup.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if cgroup is not None:
        (cgroup / "cgroup.procs").write_text("0")


class _Command:
    def __init__(self, folder: Path, more: str = "", cgroup: Path | None = None) -> None:
        command = COMMAND.replace("HOST", repr(HOST.replace("{more}", more)))
        self.process = subprocess.Popen(
            [sys.executable, "-c", command.replace("PORT", str(free_port()))],
            env={**os.environ, "XDG_STATE_HOME": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: _prepare(cgroup),
        )
        self.run_folder = Path(self._line("folder "))

    def _line(self, start: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(start):
                return line.removeprefix(start).strip()
        raise AssertionError(f"no line that starts with {start!r}")

    def wait_for(self, start: str) -> None:
        self._line(start)

    def end(self) -> str:
        """The rest of the output; nothing is left behind afterwards."""
        output, _ = self.process.communicate(timeout=60)
        assert self.run_folder not in processes.marked()
        return output


@pytest.fixture
def command(tmp_path: Path) -> Iterator[type[_Command]]:
    started: list[_Command] = []

    class Command(_Command):
        def __init__(self, more: str = "", cgroup: Path | None = None) -> None:
            super().__init__(tmp_path, more, cgroup)
            started.append(self)

    yield Command
    for one in started:
        with suppress(ProcessLookupError):
            os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        assert one.process.stdout is not None
        one.process.stdout.close()
        processes.kill(one.run_folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("to_group", [False, True])
def test_a_signal_stops_the_host_process_and_leaves_nothing(
    command: type[_Command], number: signal.Signals, to_group: bool
) -> None:
    up = command()
    (os.killpg if to_group else os.kill)(up.process.pid, number)
    output = up.end()
    assert up.process.returncode == 0
    # The group's signal did not reach the host process, whose session is its own.
    assert "signal" not in output
    assert not up.run_folder.exists()


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group, as systemd makes for a unit."""
    root = Path("/sys/fs/cgroup")
    # Version 2 has one hierarchy, version 1 one for each controller.
    base = root if (root / "cgroup.procs").exists() else root / "pids"
    path = base / f"rerank-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be created here ({error.strerror})")
    yield path
    path.rmdir()


def test_a_supervisor_finds_the_control_group_empty_after_a_stop(
    command: type[_Command], cgroup: Path
) -> None:
    up = command(cgroup=cgroup)
    assert len((cgroup / "cgroup.procs").read_text().split()) == 3
    up.process.terminate()
    up.end()
    assert (cgroup / "cgroup.procs").read_text() == ""


def test_a_host_process_that_does_not_stop_is_killed(command: type[_Command]) -> None:
    up = command(STUBBORN)
    up.process.terminate()
    output = up.end()
    assert "asked to stop" in output
    assert "did not stop within 2 s" in output
    assert up.process.returncode == 1
    assert not up.run_folder.exists()


def test_a_second_ctrl_c_ends_it_at_once(command: type[_Command]) -> None:
    up = command(STUBBORN)
    up.process.send_signal(signal.SIGINT)
    up.wait_for("asked to stop")
    time.sleep(0.6)
    up.process.send_signal(signal.SIGINT)
    assert "stopped at once" in up.end()
    assert up.process.returncode == 130


def test_the_end_of_the_host_process_is_reported(command: type[_Command]) -> None:
    up = command()
    for member in processes.marked()[up.run_folder]:
        if member.ppid() == up.process.pid:
            member.kill()
    assert "ended by SIGKILL" in up.end()
    assert up.process.returncode == 1


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code = COMMAND.replace("HOST", "''").replace("PORT", str(taken.getsockname()[1]))
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    assert "can't listen on 127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
