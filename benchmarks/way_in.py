"""The overhead of `rerank up` over bare uvicorn, with a model that takes no time.

Both servers run at the same time and are measured in turns, so that changes in the machine's speed
affect both.
Run: `make bench NAME=way_in` (needs `wrk`). Prints a Markdown table: p50 of both, the
difference, and p99 of `rerank up`, as medians over the rounds.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks import servers
from benchmarks.serving import need_wrk, wrk

CASES = ("uncached", "cached")
NO_MODEL_TIME = {"WAITING_SECONDS_PER_TOKEN": "0"}
PATH = "/v1/rerank"


def main() -> None:
    """Print a Markdown table of medians over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="default: %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=1, help="per server and round (default: %(default)g)"
    )
    options = parser.parse_args()
    need_wrk()
    print("| case | bare uvicorn p50 ms | rerank up p50 ms | added ms | rerank up p99 ms |")
    print("|---|---|---|---|---|", flush=True)
    with (
        servers.running(servers.bare_waiting, NO_MODEL_TIME) as bare,
        servers.running(servers.waiting, NO_MODEL_TIME) as up,
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
