"""Speed and memory as requests grow: the cost per pair should stay nearly constant.

Run: `make bench NAME=growth`. Prints for each request size: pairs per second and the
process's peak memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.shapes import QUERY, checkpoint, texts
from models.registry import load
from models.types import ModelSpec


def main() -> None:
    """Print a line for each request size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--counts",
        type=int,
        nargs="+",
        default=[10, 100, 1000, 10_000],
        help="documents per request (default: 10 100 1000 10000)",
    )
    parser.add_argument("--shape", default="minilm-l6", help="model (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint(options.shape, Path(folder))
        scorer = load(ModelSpec("m", source=str(path), max_length=512, backend="auto"))
        scorer.find_budget()
        info = scorer.info
        print(
            f"{info.backend} {info.dtype}, {info.token_budget} tokens per micro-batch", flush=True
        )
        for count in options.counts:
            documents = texts(count, long=False, seed=count)
            started = time.perf_counter()
            scorer.score(QUERY, documents)
            rate = count / (time.perf_counter() - started)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{count:7} documents {rate:8.1f} pairs/s {peak:8.0f} MB peak", flush=True)


if __name__ == "__main__":
    main()
