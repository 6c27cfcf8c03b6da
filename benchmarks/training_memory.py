"""Peak memory of one training step, with cached embeddings and without.

Each step of all-MiniLM-L6-v2 (the embedded weights) runs in a separate process, with a guide that
drops no negatives. Without caching, both columns are embedded at once and keep their activations
for the backward pass; this is measured at small batch sizes and extrapolated.
Run: `make bench NAME=training_memory` (extras `embedded`, `train`). Prints a Markdown table of
peak memory and seconds, and the extrapolated memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from benchmarks.training import FULL_BATCH, ZeroGuide, start
from models.training import OptimizedRerankerCachedGISTEmbedLoss, TextCollator

MINI_BATCH = 32
SMALL = (64, 128, 256)


def columns_of(model: SentenceTransformer, pairs: int) -> list[dict[str, Any]]:
    """Build a batch as the trainer passes it to a loss: full-length anchors and positives."""
    rows = [
        {"anchor": f"{i} anchor " + "panda " * 40, "positive": f"{i} text " + "bamboo " * 40}
        for i in range(pairs)
    ]
    batch = TextCollator(model.preprocess)(rows)
    names = ("anchor", "positive")
    return [
        {
            key.removeprefix(f"{name}_"): value
            for key, value in batch.items()
            if key.startswith(name)
        }
        for name in names
    ]


def uncached(model: SentenceTransformer, columns: list[dict[str, Any]]) -> torch.Tensor:
    """Compute the in-batch cross-entropy of cosines on whole columns."""
    left, right = (
        torch.nn.functional.normalize(model(column)["sentence_embedding"], dim=-1)
        for column in columns
    )
    labels = torch.arange(len(left))
    return torch.nn.functional.cross_entropy(left @ right.T / 0.05, labels)


def step(way: str, pairs: int, tokens: int) -> None:
    """Run one step; print the loaded model's peak memory, what the step adds (MB), and seconds."""
    torch.manual_seed(0)
    model = start(tokens)
    columns = columns_of(model, pairs)
    before = _peak_mb()
    started = time.perf_counter()
    if way == "cached":
        loss = OptimizedRerankerCachedGISTEmbedLoss(
            model, ZeroGuide(), "conservative", temperature=0.05, mini_batch_size=MINI_BATCH
        )
        loss(columns).backward()
    else:
        uncached(model, columns).backward()  # type: ignore[no-untyped-call]
    print(json.dumps([before, _peak_mb() - before, time.perf_counter() - started]))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measured(way: str, pairs: int, tokens: int) -> float:
    """Run a step in a separate process, print its table row, and return the MB that it added."""
    arguments = ["--step", way, "--pairs", str(pairs), "--tokens", str(tokens)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_memory", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    before, added, seconds = json.loads(done.stdout.splitlines()[-1])
    print(f"| {way} | {pairs:,} | {before:,.0f} | {added:,.0f} | {seconds:.0f} |", flush=True)
    return float(added)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pairs",
        type=int,
        default=FULL_BATCH,
        help="batch size of the cached step (default: %(default)s)",
    )
    parser.add_argument(
        "--tokens", type=int, default=32, help="tokens per text (default: %(default)s)"
    )
    parser.add_argument(
        "--step", choices=("cached", "uncached"), help="run a single step and print it as JSON"
    )
    options = parser.parse_args()
    pairs, tokens = options.pairs, options.tokens
    if options.step:
        step(options.step, pairs, tokens)
        return
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"{date.today()}, {machine}, {tokens} tokens per text\n")
    print("| embeddings | pairs | MB, model loaded | MB added by the step | s |")
    print("|---|---|---|---|---|", flush=True)
    added = [measured("uncached", some, tokens) for some in SMALL]
    measured("cached", SMALL[-1], tokens)
    measured("cached", pairs, tokens)
    slope = (added[-1] - added[0]) / (SMALL[-1] - SMALL[0])
    whole = added[0] + slope * (pairs - SMALL[0])
    print(f"\nuncached, extrapolated to {pairs:,} pairs: {whole / 2**10:.1f} GB")


if __name__ == "__main__":
    main()
