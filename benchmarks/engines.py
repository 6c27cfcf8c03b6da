"""Pairs per second of each engine beside sentence-transformers and Infinity, on the same weights.

Run: `make bench NAME=engines`. The ways of scoring take turns, so that a change in the machine's
speed affects all of them; the median of their times counts. Error and rank agreement are against
float32. The share is of this machine's measured matrix multiplication rate in that precision.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau

from benchmarks import others
from benchmarks.others import MAX_LENGTH, Infinity, Way
from benchmarks.shapes import QUERY, SHAPES, checkpoint, flops, texts
from models.engines import int8, openvino_engine
from models.registry import load
from models.types import ModelSpec

REFERENCE = "sentence-transformers fp32"
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


def ways(path: Path, large: bool) -> dict[str, Callable[[], Way]]:
    """Name to what makes a function that scores documents for the query."""
    found: dict[str, Callable[[], Way]] = {REFERENCE: partial(others.sentence_transformers, path)}
    if python := others.infinity_python():
        for short, dtype in PRECISIONS.items():
            found[f"infinity {short}"] = partial(Infinity, python, path, dtype)
    if not large:  # its export would be over the 2 GB that a protobuf file may have
        found["onnxruntime int8"] = partial(others.onnx_int8, path)
    for short, dtype in PRECISIONS.items():
        found[f"torch {short}"] = partial(ours, path, dtype=dtype)
    if openvino_engine.installed():
        for short, dtype in PRECISIONS.items():
            found[f"openvino {short}"] = partial(ours, path, dtype=dtype, backend="openvino")
        if int8.installed():
            found["openvino int8"] = partial(ours, path, dtype="int8", backend="openvino")
    return found


def ours(path: Path, **options: Any) -> Way:
    """Our own scoring, its budget found as at the service's warm-up."""
    scorer = load(ModelSpec("m", source=str(path), max_length=MAX_LENGTH, **options))
    scorer.find_budget()
    return lambda documents: [score.logit for score in scorer.score(QUERY, documents)]


def timed(
    made: dict[str, Way], documents: list[str], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Each way's scores, and its seconds in turn after turn."""
    found = {name: way(documents) for name, way in made.items()}
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, way in made.items():
            started = time.perf_counter()
            way(documents)
            times[name].append(time.perf_counter() - started)
    for way in made.values():
        if isinstance(way, Infinity):
            way.close()
    return found, times


def measure(
    path: Path, documents: list[str], repeats: int, rates: dict[str, int], *, large: bool
) -> list[dict[str, Any]]:
    """One row for each way: pairs a second, its ratio to the first, error, agreement, share."""
    all_ways = ways(path, large)
    # All of the large one's at once would not fit into a laptop's memory.
    groups = [[name] for name in all_ways] if large else [list(all_ways)]
    found: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for group in groups:
        scores, seconds = timed({name: all_ways[name]() for name in group}, documents, repeats)
        found |= scores
        times |= seconds
        gc.collect()
    lengths = [score.tokens for score in _scorer(path).score(QUERY, documents)]
    work = flops(path, lengths) / 1e9
    exact, base = found[REFERENCE], statistics.median(times[REFERENCE])
    rows = []
    for name in all_ways:
        middle = statistics.median(times[name])
        rate = rates["fp32" if name.endswith("fp32") else "bf16"]
        rows.append(
            {
                "way": name,
                "pairs_per_s": round(len(documents) / middle, 1),
                "ratio": round(base / middle, 2),
                "spread": round((max(times[name]) - min(times[name])) / middle, 2),
                "share": round(work / middle / rate, 2),
                "max_error": max(abs(a - b) for a, b in zip(exact, found[name], strict=True)),
                "kendall_tau": round(float(kendalltau(exact, found[name]).statistic), 4),
            }
        )
    return rows


def _scorer(path: Path) -> Any:
    return load(ModelSpec("m", source=str(path), max_length=MAX_LENGTH, dtype="bfloat16"))


def multiply_rate(dtype: torch.dtype) -> int:
    """GFLOP/s of a multiplication of the models' kind."""
    a, b = torch.randn(2048, 1536).to(dtype), torch.randn(1536, 2048).to(dtype)
    best = 0.0
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048 * 2048 * 1536 / (time.perf_counter() - started) / 1e9)
    return round(best)


def machine() -> dict[str, Any]:
    """What the processor offers."""
    names = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.is_file() else []
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "offers": [name for name in names if name in flags],
        "gflops": {
            "fp32": multiply_rate(torch.float32),
            "bf16": multiply_rate(torch.bfloat16),
        },
    }


def main() -> None:
    """Print the table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="only documents of 512 tokens")
    parser.add_argument("--output", type=Path, default=Path(".bench.json"))
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "shapes": {}}
    print(json.dumps(report["machine"]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.shapes:
            path = checkpoint(shape, Path(folder))
            # The large one costs thirty times the small one: fewer documents, fewer turns.
            large = shape == "xlm-r-large"
            count = max(1, options.documents // (4 if large else 1))
            repeats = min(2, options.repeats) if large else options.repeats
            for long in (True,) if options.long else (False, True):
                number = max(1, count // 5) if long else count
                name = f"{shape}, {'512 tokens' if long else 'log-normal'}"
                print(f"\n{name}, {number} documents", flush=True)
                rates = report["machine"]["gflops"]
                rows = measure(path, texts(number, long), repeats, rates, large=large)
                report["shapes"][name] = rows
                for row in rows:
                    print("  {way:28} {pairs_per_s:8} pairs/s  x{ratio:<6}".format(**row), end="")
                    print(" share {share:<5} tau {kendall_tau:<7}".format(**row), end="")
                    print(" error {max_error:.1e}".format(**row), flush=True)
                options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
