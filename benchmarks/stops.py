"""Kill each of the service's processes, and show what is left and when it serves again.

For each signal to `rerank up`, and for each process that is killed, the program starts the service
under a supervisor that restarts it at once, as systemd does, sends small requests all the time,
and prints one row:

- ends: seconds until the command and all its processes were gone ("-": it went on serving)
- left: processes, run folders and listening ports of the ended service that were still there
- serves: seconds until a request was answered again
- failed: requests that failed in the meantime, each tried once

    make bench NAME=stops
    python -m benchmarks.stops --only haproxy group-sigterm
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from serve_app.cli import processes
from serve_app.deployments.ports import free_port

START_TIMEOUT_S = 180.0
LIMIT_S = 90.0
# A service that has answered all requests for this time has recovered.
QUIET_S = 6.0
BODY = {"query": "what do pandas eat", "documents": ["Pandas eat bamboo.", "Stocks fell."]}
# Each process by what its command line contains; the signal is SIGKILL.
VICTIMS = {
    "host": "serve_app.cli.host",
    "raylet": "/raylet/raylet",
    "gcs-server": "/gcs/gcs_server",
    "dashboard-agent": "ray::DashboardAgent",
    "haproxy": "/bin/haproxy",
    "haproxy-manager": "ray::HAProxyManager",
    "controller": "ray::ServeController",
    "ingress": "ray::ServeReplica:rerank:Ingress",
    "model": "ray::ServeReplica:rerank:Model",
}
SIGNALS = {
    "sigterm": (signal.SIGTERM, False),
    "sigint": (signal.SIGINT, False),
    "sighup": (signal.SIGHUP, False),
    "sigkill": (signal.SIGKILL, False),
    "group-sigterm": (signal.SIGTERM, True),
    "group-sighup": (signal.SIGHUP, True),
    "group-sigkill": (signal.SIGKILL, True),
}
CASES = [*SIGNALS, *VICTIMS]
# The service replaces these processes by itself.
REPLACED = {"haproxy", "haproxy-manager", "controller", "ingress", "model"}


@dataclass
class Supervised:
    """A `rerank up` that is started again whenever it exits."""

    port: int
    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)
    stopping: bool = False

    def __post_init__(self) -> None:
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "serve_app", "up"],
                env={
                    **os.environ,
                    "PORT": str(self.port),
                    "XDG_STATE_HOME": str(self.folder),
                    "HF_HUB_OFFLINE": "1",
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run_folder(self) -> Path:
        """The run folder of the command that runs now."""
        for path, members in processes.marked().items():
            if any(member.ppid() == self.process.pid for member in members):
                return path
        raise RuntimeError("the service has no host process")

    def keep_alive(self) -> None:
        while not self.stopping:
            if self.process.poll() is not None:
                self.process = self._start()
            time.sleep(0.05)


@dataclass
class Clients:
    """Sends one small request after another, each on a connection of its own."""

    url: str
    failed: int = 0
    last_failure: float = 0.0
    running: bool = True

    def run(self) -> None:
        while self.running:
            if not answers(self.url):
                self.failed += 1
                self.last_failure = time.monotonic()
            time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        answer = httpx.post(f"{url}/v1/rerank", json=BODY, timeout=10, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.json()["results"][0]["index"] == 0


@contextmanager
def supervised(folder: Path) -> Iterator[Supervised]:
    service = Supervised(free_port(), folder)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(service.url):
        if time.monotonic() > deadline or service.process.poll() is not None:
            raise SystemExit((folder / "log").read_text(errors="replace"))
        time.sleep(0.2)
    thread = threading.Thread(target=service.keep_alive)
    thread.start()
    try:
        yield service
    finally:
        service.stopping = True
        thread.join()
        service.process.terminate()
        service.process.wait()


def strike(case: str, service: Supervised, run_folder: Path) -> None:
    """Send the signal of the case."""
    if case in SIGNALS:
        number, to_group = SIGNALS[case]
        (os.killpg if to_group else os.kill)(service.process.pid, number)
        return
    for process in processes.marked()[run_folder]:
        with suppress(psutil.Error):
            if VICTIMS[case] in " ".join(process.cmdline()):
                process.kill()


def measure(case: str, folder: Path) -> str:
    with supervised(folder) as service:
        run_folder = service.run_folder()
        command = psutil.Process(service.process.pid)
        clients = Clients(service.url)
        thread = threading.Thread(target=clients.run)
        thread.start()
        time.sleep(1)
        started = time.monotonic()
        strike(case, service, run_folder)
        ended = None if case in REPLACED else _ended(command, run_folder, started)
        while time.monotonic() - started < LIMIT_S:
            quiet_since = max(started, clients.last_failure)
            if time.monotonic() - quiet_since > QUIET_S and answers(service.url):
                break
            time.sleep(0.2)
        clients.running = False
        thread.join()
        left = len(processes.marked().get(run_folder, [])) if ended is not None else 0
        remains = [f"{left} processes"] if left else []
        remains += ["its folder"] if ended is not None and run_folder.exists() else []
        serves = max(0.0, clients.last_failure - started)
    shown = "-" if ended is None else f"{ended:.1f} s"
    remain = ", ".join(remains) or "nothing"
    return f"| {case} | {shown} | {remain} | {serves:.1f} s | {clients.failed} |"


def _ended(command: psutil.Process, run_folder: Path, started: float) -> float:
    """Seconds until the command and its processes are gone."""
    while time.monotonic() - started < LIMIT_S:
        is_gone = not command.is_running() or command.status() == psutil.STATUS_ZOMBIE
        if is_gone and not processes.marked().get(run_folder):
            return time.monotonic() - started
        time.sleep(0.1)
    return LIMIT_S


def main() -> None:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, metavar="CASE")
    options = parser.parse_args()
    print("| killed | ends | left | serves | failed |\n|---|---|---|---|---|", flush=True)
    for case in options.only:
        with tempfile.TemporaryDirectory(prefix="stops") as folder:
            print(measure(case, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
