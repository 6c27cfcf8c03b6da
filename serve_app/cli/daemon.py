"""The background process of `rerank up --daemon`: its PID file, its log, and stopping it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

import httpx

# Prefix of the line that says how requests reach the service.
TRAFFIC = "traffic: "
LOG_BYTES = 10 * 2**20
OLD_LOGS = 2


class NoStateFolder(Exception):
    """PID files and logs can't be written; the message says why."""


@dataclass(frozen=True)
class Running:
    """A running service, as its PID file describes it."""

    pid: int
    # When the process started (seconds since the epoch), which a reused process ID does not match.
    started: float
    command: str
    # Its run folder.
    folder: str


def state_dir() -> Path:
    """The folder of PID files and logs (XDG convention), created if missing.

    Without a writable one, a folder of this user's own beside other temporary files. Raises
    NoStateFolder.
    """
    problem = ""
    for path in (_state_home(), Path(tempfile.gettempdir()) / f"rerank-serve-{os.getuid()}"):
        if path is None:
            continue
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            problem = f"{path}: {error.strerror}"
            continue
        if os.access(path, os.W_OK) and (
            path.name == "rerank-serve" or path.stat().st_uid == os.getuid()
        ):
            return path
        problem = f"{path} is not writable"
    raise NoStateFolder(f"no folder for PID files and logs ({problem}); set XDG_STATE_HOME")


def _state_home() -> Path | None:
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / "rerank-serve"
    try:
        return Path.home() / ".local" / "state" / "rerank-serve"
    except RuntimeError:  # no HOME, and a user ID without an entry in the user database
        return None


def log_path(port: int) -> Path:
    return state_dir() / f"{port}.log"


def _pid_path(port: int) -> Path:
    return state_dir() / f"{port}.pid"


def running(port: int) -> Running | None:
    """The service on `port`, of whichever user shares the state folder; None if there is none."""
    try:
        with _pid_path(port).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Running(**json.load(file))
    except (OSError, NoStateFolder, ValueError, TypeError):
        pass
    return None


class PidFile:
    """The PID file of this process, locked until the process ends, however it ends."""

    def __init__(self, port: int) -> None:
        """Raises NoStateFolder, and BlockingIOError if another process has just started."""
        self._path = _pid_path(port)
        self._file: IO[str] = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            self._file.close()
            raise

    def write(self, service: Running) -> None:
        self._file.truncate(0)
        json.dump(asdict(service), self._file)
        self._file.flush()

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        self._file.close()


def spawn(flags: Sequence[str], port: int, timeout_s: float) -> bool:
    """Start `rerank up` in the background; return True once it reports that it is ready.

    It reports as services do to systemd, with a datagram to NOTIFY_SOCKET (sd_notify(3)).
    """
    with (
        tempfile.TemporaryDirectory(prefix="rr-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
    ):
        path = str(Path(folder) / "notify")
        notified.bind(path)
        notified.settimeout(0.2)
        process = subprocess.Popen(
            [sys.executable, "-m", "serve_app", "up", *flags, "--log-file", str(log_path(port))],
            env={**os.environ, "NOTIFY_SOCKET": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(TimeoutError):
                if notified.recv(4096) == b"READY=1":
                    return True
    return False


def notify(state: str, address: str | None) -> None:
    """Tell the process that started this one about its state, as sd_notify(3) does."""
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        # systemd writes an abstract socket's leading NUL as @.
        out.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        out.send(state.encode())


class LogFile:
    """Redirects this process's output, and that of its children, to a file that is rotated."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=OLD_LOGS)
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(writer)
        self._lines = os.fdopen(reader, encoding="utf-8", errors="replace")
        self._thread = threading.Thread(target=self._copy, name="log", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        for line in self._lines:
            record = logging.LogRecord("", logging.INFO, "", 0, line.rstrip("\n"), None, None)
            self._handler.handle(record)

    def close(self) -> None:
        """Write what is left; nothing can be printed afterwards."""
        sys.stdout.flush()
        sys.stderr.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.close(null)
        self._thread.join(5)
        self._handler.close()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def terminate(service: Running, timeout_s: float) -> bool:
    """Send SIGTERM and wait; return True once the process has exited.

    Raises PermissionError if it belongs to another user.
    """
    import psutil

    try:
        process = psutil.Process(service.pid)
        if abs(process.create_time() - service.started) > 2:  # a stranger with a reused ID
            return True
        os.kill(service.pid, signal.SIGTERM)
        process.wait(timeout_s)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def read_log(port: int, follow: bool) -> Iterator[str]:
    """Yield the log's lines; with `follow`, also new ones until the service exits."""
    path = log_path(port)
    log = path.open(errors="replace")
    try:
        while True:
            if line := log.readline():
                yield line
            elif not follow or running(port) is None:
                yield from log
                return
            elif _is_rotated(log, path):
                yield from log
                log.close()
                log = path.open(errors="replace")
            else:
                time.sleep(0.2)
    finally:
        log.close()


def _is_rotated(log: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_ino != os.fstat(log.fileno()).st_ino
    return False
