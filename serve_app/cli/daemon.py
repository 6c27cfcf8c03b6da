"""The background process of `rerank up --daemon`: process ID, log and shutdown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

# Prefix of the line that `rerank up` prints once it accepts requests.
READY = "ready at "
# Prefix of an earlier line, which says how requests reach the service.
TRAFFIC = "traffic: "


def state_dir() -> Path:
    """The folder of process IDs and logs (XDG convention)."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(base) / "rerank-serve"
    path.mkdir(parents=True, exist_ok=True)
    return path


def log_path(port: int) -> Path:
    return state_dir() / f"{port}.log"


def _pid_path(port: int) -> Path:
    return state_dir() / f"{port}.pid"


def running_pid(port: int) -> int | None:
    """The process ID of the service on `port`; None if none is running."""
    try:
        pid = int(_pid_path(port).read_text())
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    return pid


def write_pid(port: int) -> None:
    _pid_path(port).write_text(str(os.getpid()))


def remove_pid(port: int) -> None:
    _pid_path(port).unlink(missing_ok=True)


def spawn(flags: Sequence[str], port: int, timeout_s: float) -> bool:
    """Start `rerank up` in the background; return True once its log says that it is ready."""
    with log_path(port).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serve_app", "up", *flags],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        # /ready answers slightly earlier, and stopping then would interrupt the startup.
        if f"\n{READY}" in log_path(port).read_text(errors="replace"):
            return True
        time.sleep(0.2)
    return False


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def terminate(pid: int, timeout_s: float) -> bool:
    """Send SIGTERM and wait; return True once the process has exited."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def read_log(port: int, follow: bool) -> Iterator[str]:
    """Yield the log's lines; with `follow`, also new ones until the service exits."""
    with log_path(port).open(errors="replace") as log:
        while True:
            line = log.readline()
            if line:
                yield line
            elif not follow or running_pid(port) is None:
                return
            else:
                time.sleep(0.2)
