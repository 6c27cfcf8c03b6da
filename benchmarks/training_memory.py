"""Peak memory of one training step of a real model, with cached embeddings and without.

all-MiniLM-L6-v2 (the embedded weights) takes one step, each time in a process of its own; the guide
holds nothing back. Without a cache both columns are embedded at once, with all that their backward
pass needs: that is measured at sizes that fit, and drawn on from there.

Run: `make bench NAME=training_memory`.
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

from benchmarks.training import FULL_BATCH, Silent, start
from models.training import OptimizedRerankerCachedGISTEmbedLoss, TextCollator

MINI_BATCH = 32
SMALL = (64, 128, 256)


def columns_of(model: SentenceTransformer, pairs: int) -> list[dict[str, Any]]:
    """A batch as the trainer hands it to a loss: anchors and positives that fill the model."""
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
    """In-batch cross-entropy of cosines, on whole columns."""
    left, right = (
        torch.nn.functional.normalize(model(column)["sentence_embedding"], dim=-1)
        for column in columns
    )
    labels = torch.arange(len(left))
    return torch.nn.functional.cross_entropy(left @ right.T / 0.05, labels)


def step(way: str, pairs: int, tokens: int) -> None:
    """One step; prints its peak memory over that of the loaded model, in MB, and its seconds."""
    torch.manual_seed(0)
    model = start(tokens)
    columns = columns_of(model, pairs)
    before = _peak_mb()
    started = time.perf_counter()
    if way == "cached":
        loss = OptimizedRerankerCachedGISTEmbedLoss(
            model, Silent(), "conservative", temperature=0.05, mini_batch_size=MINI_BATCH
        )
        loss(columns).backward()
    else:
        uncached(model, columns).backward()
    print(json.dumps([before, _peak_mb() - before, time.perf_counter() - started]))


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measured(way: str, pairs: int, tokens: int) -> float:
    """A step in a process of its own: a line of the table, and the megabytes that it added."""
    asked = ["--step", way, "--pairs", str(pairs), "--tokens", str(tokens)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_memory", *asked],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    before, added, taken = json.loads(done.stdout.splitlines()[-1])
    print(f"| {way} | {pairs:,} | {before:,.0f} | {added:,.0f} | {taken:.0f} |", flush=True)
    return float(added)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=FULL_BATCH, help="the cached step's batch")
    parser.add_argument("--tokens", type=int, default=32, help="of each text")
    parser.add_argument("--step", choices=("cached", "uncached"), help="one step, as JSON")
    options = parser.parse_args()
    pairs, tokens = options.pairs, options.tokens
    if options.step:
        step(options.step, pairs, tokens)
        return
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, {tokens} tokens a text\n")
    print("| embeddings | pairs | MB with the model loaded | MB that the step adds | s |")
    print("|---|---|---|---|---|", flush=True)
    added = [measured("uncached", some, tokens) for some in SMALL]
    measured("cached", SMALL[-1], tokens)
    measured("cached", pairs, tokens)
    slope = (added[-1] - added[0]) / (SMALL[-1] - SMALL[0])
    whole = added[0] + slope * (pairs - SMALL[0])
    print(f"\nuncached at {pairs:,} pairs, by the slope of these: {whole / 2**10:.1f} GB")


if __name__ == "__main__":
    main()
