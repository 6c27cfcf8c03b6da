"""Bare uvicorn, `serve run`, `rerank up` and Infinity under load from wrk, one after the other.

Each case warms up, then runs for the same time at each number of clients. Needs `wrk` (apt).
Run: `make bench NAME=serving`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import servers
from benchmarks.shapes import checkpoint

SCRIPT = Path(__file__).with_name("serving.lua")
CASES = ("uncached", "cached", "overlap")
CLIENTS = (1, 16, 64)
DOCUMENTS = 50
HEAD = "| server | case | clients | p50 ms | p99 ms | requests/s | pairs/s | CPU ms/request |"
Command = Callable[[int, Path], Sequence[str]]


def need_wrk() -> None:
    """Stop where there is no `wrk`."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")


def wrk(url: str, case: str, clients: int, seconds: float, path: str) -> dict[str, float]:
    """One run of wrk; what its script prints at the end."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "60s", "-s"]
    command += [str(SCRIPT), url, "--", case, str(DOCUMENTS), path]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    result: dict[str, float] = json.loads(out.rpartition("RESULT ")[2])
    return result


def measure(server: servers.Server, case: str, clients: int, seconds: float, path: str) -> str:
    """The cells of one row."""
    server.settle()
    wrk(server.url, case, 1, 1, path)
    server.settle()
    before = server.cpu_s()
    found = wrk(server.url, case, clients, seconds, path)
    spent = server.cpu_s() - before
    requests = found["requests"] - found["errors"]
    rate = requests / found["seconds"]
    cpu_ms = 1000 * spent / requests if requests else float("nan")
    cells = [f"{found['p50_ms']:.1f}", f"{found['p99_ms']:.1f}", f"{rate:.1f}"]
    cells += [f"{rate * DOCUMENTS:.0f}", f"{cpu_ms:.1f}"]
    failed = f" ({found['errors']:.0f} failed)" if found["errors"] else ""
    return " | ".join(cells) + failed


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--servers", nargs="+", help="the start of their names; empty: all")
    parser.add_argument("--infinity", type=Path, default=Path(".venv-infinity/bin/python"))
    options = parser.parse_args()
    need_wrk()
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint("minilm-l6", Path(folder))
        env = {"RERANKER_LOCAL_MODEL_PATH": str(model)}
        kinds: dict[str, tuple[Command, str, str]] = {
            "bare uvicorn": (servers.bare, "/ready", "/v1/rerank"),
            "serve run, Serve's proxy": (servers.serve_run, "/ready", "/v1/rerank"),
            "rerank up, HAProxy": (servers.rerank_up, "/ready", "/v1/rerank"),
        }
        if servers.has_infinity(options.infinity):
            start = servers.infinity(options.infinity, model)
            kinds["Infinity, fp32"] = (start, "/health", "/rerank")
        if options.servers:
            kinds = {k: v for k, v in kinds.items() if k.startswith(tuple(options.servers))}
        print(HEAD + "\n" + "|---" * HEAD.count(" | ") + "|---|", flush=True)
        for name, (command, ready, path) in kinds.items():
            with servers.running(command, env, ready) as server:
                for case in options.cases:
                    for clients in options.clients:
                        cells = measure(server, case, clients, options.seconds, path)
                        print(f"| {name} | {case} | {clients} | {cells} |", flush=True)
                print(f"{name}: {server.resident_mb():.0f} MB resident", flush=True)


if __name__ == "__main__":
    main()
