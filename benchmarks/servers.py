"""Start the servers to measure, each in its own session so that its processes can be found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from serve_app.deployments.ports import free_port

START_TIMEOUT_S = 180
BIN = Path(sys.executable).parent
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Server:
    """A running server: its URL and the session id of its processes."""

    url: str
    session: int

    def cpu_s(self) -> float:
        """Return the CPU seconds used by the session's running processes."""
        ticks = sum(int(fields[11]) + int(fields[12]) for _, fields in processes(self.session))
        return ticks / os.sysconf("SC_CLK_TCK")

    def settle(self, limit_s: float = 90) -> None:
        """Wait until the server is idle, for example after clients disconnected."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            before = self.cpu_s()
            time.sleep(0.5)
            if self.cpu_s() - before < 0.1:
                return

    def resident_mb(self) -> float:
        """Return the resident memory of the session's processes; shared pages count repeatedly."""
        pages = sum(int(fields[21]) for _, fields in processes(self.session))
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def processes(session: int) -> Iterator[tuple[int, list[str]]]:
    """Yield a server's process ids, with the fields of /proc/PID/stat from the third on.

    They are the members of its session, and of the sessions that these have started.
    """
    found: dict[int, list[str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            found[int(stat.parent.name)] = stat.read_text().rsplit(")", 1)[1].split()
    sessions = {session}
    while started := {
        int(fields[3])
        for fields in found.values()
        if int(fields[1]) in found
        and int(found[int(fields[1])][3]) in sessions
        and int(fields[3]) not in sessions
    }:
        sessions |= started
    return ((pid, fields) for pid, fields in found.items() if int(fields[3]) in sessions)


@contextmanager
def running(
    command: Callable[[int, Path], Sequence[str]], env: Mapping[str, str], ready: str = "/ready"
) -> Iterator[Server]:
    """Run a server whose command is built from a port and a folder; stop it with SIGINT."""
    port = free_port()
    # A short prefix, because the paths of Ray's sockets are long and limited in length.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        own = {"PORT": str(port), "XDG_STATE_HOME": folder, "RAY_TMPDIR": folder}
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                list(command(port, Path(folder))),
                cwd=ROOT,
                env={**os.environ, "HF_HUB_OFFLINE": "1", **own, **env},
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while not _answers(url + ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(
                        f"the server did not start:\n{log.read_text(errors='replace')}"
                    )
                time.sleep(0.3)
            yield Server(url, process.pid)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(90)
            finally:
                for pid, _ in processes(process.pid):
                    os.kill(pid, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def bare(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.bare"]


def bare_waiting(port: int, folder: Path) -> list[str]:
    return [*bare(port, folder), "--waiting"]


def rerank_up(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "serve_app", "up"]


def waiting(port: int, folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.waiting"]


def serve_run(port: int, folder: Path) -> list[str]:
    config = (ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}")
    # The model is set by the environment, as for the other servers.
    (folder / "config.yaml").write_text(config.replace("model: embedded", "log_level: INFO"))
    return [str(BIN / "serve"), "run", str(folder / "config.yaml")]


def has_infinity(python: Path) -> bool:
    """Return whether that Python environment has Infinity with its server."""
    check = [str(python), "-c", "import infinity_emb, typer, fastapi"]
    return python.exists() and subprocess.run(check, capture_output=True).returncode == 0


def infinity(python: Path, model: Path) -> Callable[[int, Path], list[str]]:
    """Return the command of Infinity's server on the same checkpoint."""
    program = str(python.parent / "infinity_emb")
    flags = ["--model-id", str(model), "--served-model-name", "m", "--device", "cpu"]
    flags += ["--engine", "torch", "--dtype", "float32", "--no-bettertransformer"]
    return lambda port, _: [program, "v2", *flags, "--host", "127.0.0.1", "--port", str(port)]
