"""Load test with wrk: bare uvicorn, `serve run`, `rerank up` and Infinity, one after another.

Each case starts with a warm-up, then runs for `--seconds` at each number of clients. `uncached`:
new documents; `cached`: the same request; `overlap`: 90% of the documents are cached.
Run: `make bench NAME=serving` (needs `wrk`; Infinity runs from `.venv-infinity`). Prints a
Markdown table of latency, throughput and CPU time, and each server's memory.
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
    """Exit with a message if `wrk` is not installed."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk not found; install it, for example with `apt-get install wrk`")


def wrk(url: str, case: str, clients: int, seconds: float, path: str) -> dict[str, float]:
    """Run wrk and return the results that its script prints."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "60s", "-s"]
    command += [str(SCRIPT), url, "--", case, str(DOCUMENTS), path]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    result: dict[str, float] = json.loads(out.rpartition("RESULT ")[2])
    return result


def measure(server: servers.Server, case: str, clients: int, seconds: float, path: str) -> str:
    """Return the cells of one row."""
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
    parser.add_argument("--seconds", type=float, default=10, help="per run (default: %(default)g)")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="default: 1 16 64")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="default: all")
    parser.add_argument("--servers", nargs="+", help="prefixes of server names (default: all)")
    parser.add_argument(
        "--infinity",
        type=Path,
        default=Path(".venv-infinity/bin/python"),
        help="Python that has Infinity (default: %(default)s)",
    )
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
                print(f"{name}: {server.resident_mb():.0f} MB resident memory", flush=True)


if __name__ == "__main__":
    main()
