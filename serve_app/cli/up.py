"""Run the service on this machine: start its host process, watch it, and leave nothing behind.

Ray, HAProxy and the models run under the host process (`host.py`), in a session of their own, so
that a signal to the terminal's or the supervisor's process group reaches this process alone. It
passes the signal on, waits for a limited time and kills what is left.
"""

from __future__ import annotations

import os
import pickle
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

from serve_app.cli import daemon, processes, run_folder
from serve_app.cli.run_folder import RunFolder
from serve_app.settings import Settings

# Seconds for everything that follows the last response: Serve's and Ray's own shutdown.
SHUTDOWN_S = 20.0
POLL_S = 0.1
# `timeout` and some supervisors signal a process and then its group: that is one request to stop.
SAME_REQUEST_S = 0.5
# The host process's exit status when a process of Ray's is gone, whose log may say why.
RAY_FAILED = 70
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StartError(Exception):
    """The service can't start; the message says why and what to do."""


class _Stop:
    """Signals that ask for a stop: the first for a clean one, a later one for an instant one."""

    def __init__(self) -> None:
        self.requested_at: float | None = None
        self.at_once = False
        for number in STOP_SIGNALS:
            # nohup has SIGHUP ignored.
            if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested_at is None:
            self.requested_at = now
        elif now - self.requested_at > SAME_REQUEST_S:
            self.at_once = True


def stop_timeout_s(settings: Settings) -> float:
    """The longest time that a stop takes: the requests in flight, then the shutdown."""
    return settings.limits.worker_timeout_s + SHUTDOWN_S


def run(settings: Settings) -> int:
    """Run the service until it is stopped by a signal; return the exit status.

    Raises StartError if it can't be started here; other failures are reported by the host process.
    """
    stop = _Stop()
    for line in run_folder.clear_abandoned():
        print(f"rerank: {line}", flush=True)
    _refuse_taken_port(settings)
    pid_file = _pid_file(settings)
    try:
        folder = run_folder.create()
    except run_folder.NoFolder as error:
        raise StartError(f"{error}; set TMPDIR to a folder with a short path") from None
    processes.adopt_orphans()
    host = _start_host(settings, folder)
    if pid_file is not None:
        pid_file.write(_running(folder))
    try:
        status = _wait(host, stop, stop_timeout_s(settings))
    finally:
        assert host.stdin is not None
        with suppress(OSError):
            host.stdin.close()
        processes.kill(folder.path, but=[os.getpid()])
        host.wait()
        processes.reap(host.pid)
        if pid_file is not None:
            pid_file.remove()
    logs = folder.path / "ray" / "session_latest" / "logs"
    if status == RAY_FAILED and logs.exists():
        print(f"rerank: Ray's logs are in {logs} until the next start", file=sys.stderr)
        folder.owner.close()
    else:
        folder.remove()
    return 1 if status == RAY_FAILED else status


def _wait(host: subprocess.Popen[bytes], stop: _Stop, timeout_s: float) -> int:
    """Wait until the host process exits, or has to be killed; return this command's status."""
    signalled = False
    while host.poll() is None:
        processes.reap(host.pid)
        if stop.requested_at is not None and not signalled:
            host.terminate()
            signalled = True
        if stop.at_once:
            print("rerank: stopped at once, requests in flight are lost", file=sys.stderr)
            return 130
        if stop.requested_at is not None and time.monotonic() - stop.requested_at > timeout_s:
            print(f"rerank: killed, it did not stop within {timeout_s:.0f} s", file=sys.stderr)
            return 1
        time.sleep(POLL_S)
    if host.returncode >= 0:
        return host.returncode
    if signalled:  # before it had a handler
        return 0
    name = signal.Signals(-host.returncode).name
    print(f"rerank: the service's host process was ended by {name}", file=sys.stderr)
    return RAY_FAILED


def _start_host(settings: Settings, folder: RunFolder) -> subprocess.Popen[bytes]:
    host = subprocess.Popen(
        [sys.executable, "-m", "serve_app.cli.host"],
        stdin=subprocess.PIPE,
        env={**os.environ, processes.MARK: str(folder.path)},
        start_new_session=True,
    )
    assert host.stdin is not None
    # It stays open: its end tells the host process that this one is gone.
    host.stdin.write(pickle.dumps(settings))
    host.stdin.flush()
    return host


def _running(folder: RunFolder) -> daemon.Running:
    import psutil

    process = psutil.Process()
    command = shlex.join(process.cmdline())
    return daemon.Running(process.pid, process.create_time(), command, str(folder.path))


def _pid_file(settings: Settings) -> daemon.PidFile | None:
    port = settings.serving.port
    try:
        return daemon.PidFile(port)
    except BlockingIOError:
        raise StartError(f"another `rerank up` has just started on port {port}") from None
    except (OSError, daemon.NoStateFolder) as error:
        print(f"rerank: no PID file, so `rerank down` will not find the service: {error}",
              file=sys.stderr, flush=True)  # fmt: skip
        return None


def _refuse_taken_port(settings: Settings) -> None:
    host, port = settings.serving.host, settings.serving.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StartError(
            f"can't listen on {host}:{port} ({error.strerror}). "
            "If another service uses this port, set PORT=8001 or run `rerank down`."
        ) from None
