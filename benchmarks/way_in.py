"""Latency that `rerank up` adds to bare uvicorn, with a model that does nothing.

Both run at the same time and are asked in turn, so that a slow moment of the machine affects
both. Needs `wrk` (apt). Run: `make bench NAME=way_in`.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks import servers
from benchmarks.serving import need_wrk, wrk

CASES = ("uncached", "cached")
NOTHING = {"WAITING_SECONDS_PER_TOKEN": "0"}
PATH = "/v1/rerank"


def main() -> None:
    """Print a Markdown table of medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1)
    options = parser.parse_args()
    need_wrk()
    print("| case | bare uvicorn, p50 ms | rerank up, p50 ms | added ms | p99 ms |")
    print("|---|---|---|---|---|", flush=True)
    with (
        servers.running(servers.bare_waiting, NOTHING) as bare,
        servers.running(servers.waiting, NOTHING) as up,
    ):
        up.settle()
        for case in CASES:
            found: dict[str, list[dict[str, float]]] = {bare.url: [], up.url: []}
            for url in found:
                wrk(url, case, 1, 2, PATH)
            for _ in range(options.rounds):
                for url, runs in found.items():
                    runs.append(wrk(url, case, 1, options.seconds, PATH))
            (bare_ms, _), (up_ms, tail) = (
                [statistics.median(run[figure] for run in runs) for figure in ("p50_ms", "p99_ms")]
                for runs in found.values()
            )
            cells = f"{bare_ms:.2f} | {up_ms:.2f} | {up_ms - bare_ms:.2f} | {tail:.2f}"
            print(f"| {case} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
