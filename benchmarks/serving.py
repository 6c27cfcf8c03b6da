"""One client, 50 documents: `rerank up` beside the same routes and scoring on bare uvicorn.

Requests alternate between the two, so that a drift of the machine's speed meets both. Run:
`make bench-serving`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

DOCUMENTS, WORDS = 50, 20
VOCABULARY = ("model", "query", "document", "score", "rank", "search", "index", "engine")
START_TIMEOUT_S = 120


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(*module: str) -> Iterator[tuple[httpx.Client, int]]:
    """A server started by `python -m …`: a client for it, and its process id."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as state, httpx.Client(trust_env=False) as client:
        env = {**os.environ, "PORT": str(port), "XDG_STATE_HOME": state}
        with (Path(state) / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *module],
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
        client.timeout = httpx.Timeout(60)
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while not _is_ready(client):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{module} did not start")
                time.sleep(0.2)
            yield client, process.pid
        finally:
            process.terminate()
            process.wait(60)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.HTTPError:
        return False


def _texts(chooser: random.Random) -> list[str]:
    return [" ".join(chooser.choices(VOCABULARY, k=WORDS)) for _ in range(DOCUMENTS)]


def _time(client: httpx.Client, body: dict[str, object]) -> float:
    started = time.perf_counter()
    answer = client.post("/v1/rerank", json=body)
    answer.raise_for_status()
    return (time.perf_counter() - started) * 1000


def _resident_mb(session: int) -> dict[str, float]:
    """Resident memory in MB of each process of a session, by its command."""
    sizes: dict[str, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            command = (stat.parent / "cmdline").read_text().replace("\0", " ").strip()
        except OSError:
            continue
        if int(fields[3]) == session and command:
            name = " ".join(Path(word).name for word in command.split()[:3])[:48]
            size = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
            sizes[f"{name} [{stat.parent.name}]"] = round(size)
    return sizes


def main() -> None:
    """Print milliseconds at p50 for each path, their difference, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=60)
    requests = parser.parse_args().requests
    chooser = random.Random(0)
    with ExitStack() as stack:
        bare, _ = stack.enter_context(running("benchmarks.bare"))
        ours, pid = stack.enter_context(running("serve_app.cli", "up"))
        for client in (bare, ours):
            for _ in range(5):
                _time(client, {"query": "warm", "documents": _texts(chooser)})

        fixed: dict[str, object] = {"query": "cached", "documents": _texts(chooser)}

        def fresh() -> dict[str, object]:
            return {"query": f"q {chooser.random()}", "documents": _texts(chooser)}

        def cached() -> dict[str, object]:
            return fixed

        cases: dict[str, Callable[[], dict[str, object]]] = {"uncached": fresh, "cached": cached}
        report: dict[str, object] = {}
        for case, make in cases.items():
            _time(bare, fixed), _time(ours, fixed)
            times: dict[str, list[float]] = {"bare": [], "ours": []}
            for _ in range(requests):
                times["bare"].append(_time(bare, make()))
                times["ours"].append(_time(ours, make()))
            p50 = {name: statistics.median(values) for name, values in times.items()}
            report[case] = {
                "bare_uvicorn_ms": round(p50["bare"], 2),
                "rerank_up_ms": round(p50["ours"], 2),
                "ratio": round(p50["ours"] / p50["bare"], 2),
                "added_ms": round(p50["ours"] - p50["bare"], 2),
            }
        report["resident_mb"] = _resident_mb(pid)
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
