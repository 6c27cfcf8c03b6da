"""Speed of each engine and of other libraries (sentence-transformers, Infinity, ONNX Runtime).

All score the same documents with the same weights, in turns, so that changes in the machine's
speed affect all of them; the median time counts.
Run: `make bench NAME=engines` (extra `bench`; Infinity runs from `.venv-infinity`). Prints
for each model shape and library: pairs per second; the ratio to sentence-transformers; the share
of this machine's measured matrix multiplication rate in that precision; Kendall's tau and the
largest error against sentence-transformers in float32. The same goes to a JSON file.
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
from benchmarks.others import MAX_LENGTH, Infinity, ScoreFunction
from benchmarks.shapes import QUERY, SHAPES, checkpoint, flops, texts
from models.engines import int8, openvino_engine
from models.registry import load
from models.types import ModelSpec

REFERENCE = "sentence-transformers fp32"
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


def loaders(path: Path, large: bool) -> dict[str, Callable[[], ScoreFunction]]:
    """Return by name what loads the checkpoint into a function that scores documents."""
    found: dict[str, Callable[[], ScoreFunction]] = {
        REFERENCE: partial(others.sentence_transformers, path)
    }
    if python := others.infinity_python():
        for short, dtype in PRECISIONS.items():
            found[f"infinity {short}"] = partial(Infinity, python, path, dtype)
    if not large:  # the export would exceed the 2 GB limit of a protobuf file
        found["onnxruntime int8"] = partial(others.onnx_int8, path)
    for short, dtype in PRECISIONS.items():
        found[f"torch {short}"] = partial(ours, path, dtype=dtype)
    if openvino_engine.installed():
        for short, dtype in PRECISIONS.items():
            found[f"openvino {short}"] = partial(ours, path, dtype=dtype, backend="openvino")
        if int8.installed():
            found["openvino int8"] = partial(ours, path, dtype="int8", backend="openvino")
    return found


def ours(path: Path, **options: Any) -> ScoreFunction:
    """Load one of our engines; its token budget is searched for, as in the service's warm-up."""
    scorer = load(ModelSpec("m", source=str(path), max_length=MAX_LENGTH, **options))
    scorer.find_budget()
    return lambda documents: [score.logit for score in scorer.score(QUERY, documents)]


def timed(
    functions: dict[str, ScoreFunction], documents: list[str], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return each function's scores, and its seconds in each round."""
    scores = {name: score(documents) for name, score in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, score in functions.items():
            started = time.perf_counter()
            score(documents)
            times[name].append(time.perf_counter() - started)
    for score in functions.values():
        if isinstance(score, Infinity):
            score.close()
    return scores, times


def measure(
    path: Path, documents: list[str], repeats: int, rates: dict[str, int], *, large: bool
) -> list[dict[str, Any]]:
    """Return one row per library: speed, ratio to the reference, share, error, agreement."""
    load_by_name = loaders(path, large)
    # The large model is loaded by one library at a time: all at once would not fit in memory.
    groups = [[name] for name in load_by_name] if large else [list(load_by_name)]
    found: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for group in groups:
        scores, seconds = timed({name: load_by_name[name]() for name in group}, documents, repeats)
        found |= scores
        times |= seconds
        gc.collect()
    lengths = [score.tokens for score in _scorer(path).score(QUERY, documents)]
    work = flops(path, lengths) / 1e9
    exact, base = found[REFERENCE], statistics.median(times[REFERENCE])
    rows = []
    for name in load_by_name:
        median = statistics.median(times[name])
        rate = rates["fp32" if name.endswith("fp32") else "bf16"]
        rows.append(
            {
                "way": name,
                "pairs_per_s": round(len(documents) / median, 1),
                "ratio": round(base / median, 2),
                "spread": round((max(times[name]) - min(times[name])) / median, 2),
                "share": round(work / median / rate, 2),
                "max_error": max(abs(a - b) for a, b in zip(exact, found[name], strict=True)),
                "kendall_tau": round(float(kendalltau(exact, found[name]).statistic), 4),
            }
        )
    return rows


def _scorer(path: Path) -> Any:
    return load(ModelSpec("m", source=str(path), max_length=MAX_LENGTH, dtype="bfloat16"))


def multiply_rate(dtype: torch.dtype) -> int:
    """Measure the GFLOP/s of a matrix multiplication of the models' size."""
    a, b = torch.randn(2048, 1536).to(dtype), torch.randn(1536, 2048).to(dtype)
    best = 0.0
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048 * 2048 * 1536 / (time.perf_counter() - started) / 1e9)
    return round(best)


def machine() -> dict[str, Any]:
    """Describe the processor: cores, instruction sets and matrix multiplication rates."""
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
    """Print the tables, and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, default=list(SHAPES), help="default: all"
    )
    parser.add_argument("--documents", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--long", action="store_true", help="only documents of 512 tokens")
    parser.add_argument(
        "--output", type=Path, default=Path(".bench.json"), help="JSON file (default: %(default)s)"
    )
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "shapes": {}}
    print(json.dumps(report["machine"]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.shapes:
            path = checkpoint(shape, Path(folder))
            # The large model takes thirty times as long: fewer documents and rounds.
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
                    print(
                        "  {way:28} {pairs_per_s:8} pairs/s  ratio {ratio:<6}".format(**row), end=""
                    )
                    print(" share {share:<5} tau {kendall_tau:<7}".format(**row), end="")
                    print(" max error {max_error:.1e}".format(**row), flush=True)
                options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
