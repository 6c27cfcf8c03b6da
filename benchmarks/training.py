"""Training guided by a reranker: held-out quality against the number of guide calls.

Trains all-MiniLM-L6-v2 (the embedded weights) with the full loss and with each preset, from the
same start on the same batches, with the embedded reranker as the guide. The pairs are docstrings of
the standard library, so the same Python version yields the same pairs. First counts the guide calls
for one batch of the full size, with a guide without a model.
Run: `make bench NAME=training` (extras `embedded`, `eval`, `train`). Prints a Markdown table
of guide calls, and one of MRR@10 on held-out queries with the difference from the full loss.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)

from models import embedded
from models.registry import load
from models.training import (
    PRESETS,
    Guide,
    OptimizedRerankerCachedGISTEmbedLoss,
    RerankerCachedGISTEmbedLoss,
    RerankerCallback,
    ScorerGuide,
    TextCollator,
)
from models.training.prefilter import Preset
from models.types import ModelSpec
from serve_app.evaluate.docstrings import Corpus, build
from serve_app.evaluate.significance import bootstrap_interval

FULL_BATCH = 2048
FULL = "full"


class CachedGuide:
    """A guide that caches another's scores, so that all losses get the same ones."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._scores: dict[tuple[str, str], float] = {}

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        requests = list(zip(queries, documents, strict=True))
        new = [(q, [d for d in part if (q, d) not in self._scores]) for q, part in requests]
        new = [(q, part) for q, part in new if part]
        answers = self._guide.score([q for q, _ in new], [part for _, part in new]) if new else []
        for (query, part), scores in zip(new, answers, strict=True):
            self._scores.update(((query, d), s) for d, s in zip(part, scores, strict=True))
        return [[self._scores[query, d] for d in part] for query, part in requests]


class ZeroGuide:
    """A guide without a model: every score is 0, so no negative is dropped."""

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        return [[0.0] * len(part) for part in documents]


class EmbeddingTable(torch.nn.Module):
    """A model that looks up its embeddings by token id."""

    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(vectors, freeze=False)  # type: ignore[no-untyped-call]

    def forward(self, features: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": self.table(features["input_ids"][:, 0])}


def loss_of(name: str, model: SentenceTransformer, guide: Guide) -> RerankerCachedGISTEmbedLoss:
    """Create the loss of a table row."""
    if name == FULL:
        return RerankerCachedGISTEmbedLoss(model, guide, temperature=0.05)
    return OptimizedRerankerCachedGISTEmbedLoss(model, guide, cast(Preset, name), temperature=0.05)


def start(max_length: int) -> SentenceTransformer:
    model = SentenceTransformer(str(embedded.folder()), device="cpu")
    model.max_seq_length = max_length
    return model


def train(name: str, pairs: Dataset, guide: Guide, options: argparse.Namespace) -> Any:
    """Train a model; return it, its loss (with counters) and the seconds."""
    model = start(options.max_length)
    loss = loss_of(name, model, guide)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=options.batch,
                num_train_epochs=options.epochs,
                learning_rate=options.rate,
                warmup_steps=2,
                dataloader_drop_last=True,
                dataloader_pin_memory=False,
                save_strategy="no",
                logging_steps=1000,
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                seed=options.seed,
            ),
            train_dataset=pairs,
            loss=loss,
            data_collator=TextCollator(model.preprocess),
        )
        RerankerCallback(loss.counters).attach(trainer)
        started = time.perf_counter()
        trainer.train()
    return model, loss, time.perf_counter() - started


def reciprocal_ranks(model: SentenceTransformer, queries: Any, documents: Any) -> list[float]:
    """Return 1/rank of each query's own document among all documents, 0 below rank 10."""
    sides = [
        torch.tensor(model.encode(list(texts), normalize_embeddings=True, batch_size=64))
        for texts in (queries, documents)
    ]
    cosines = sides[0] @ sides[1].T
    ranks = (cosines > cosines.diagonal()[:, None]).sum(dim=1) + 1
    return [1 / int(rank) if rank <= 10 else 0.0 for rank in ranks]


def count() -> None:
    """Count the guide calls for one batch in the worst case, in which all texts are similar.

    No model is involved: the embeddings come from a table, and the guide's scores are all 0.
    """
    torch.manual_seed(0)
    rows = torch.arange(FULL_BATCH)[:, None]
    table = EmbeddingTable(torch.ones(16) + 0.01 * torch.randn(2 * FULL_BATCH, 16))
    features = [
        {
            "input_ids": rows + column * FULL_BATCH,
            "attention_mask": torch.ones_like(rows),
            "texts": [f"{column} {row}" for row in range(FULL_BATCH)],
        }
        for column in (0, 1)
    ]
    print(f"one batch of {FULL_BATCH:,} pairs, worst case\n")
    print("| loss | guide calls | saved | seconds |\n|---|---|---|---|")
    for name in (FULL, *PRESETS):
        loss = loss_of(name, cast(Any, torch.nn.Sequential(table)), ZeroGuide())
        started = time.perf_counter()
        loss([dict(column) for column in features]).backward()
        seconds, counters = time.perf_counter() - started, loss.counters
        saved = f"{counters.share_saved:.2%}"
        print(f"| {name} | {counters.calls:,} of {counters.pairs:,} | {saved} | {seconds:.1f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the process: {peak:.1f} GB\n", flush=True)


def compare(corpus: Corpus, options: argparse.Namespace) -> None:
    """Train with each loss and print a row for it."""
    end = len(corpus.queries) - options.held_out
    pairs = Dataset.from_dict(
        {
            "anchor": list(corpus.queries[: min(options.pairs, end)]),
            "positive": list(corpus.documents[: min(options.pairs, end)]),
        }
    )
    held_out = corpus.queries[end:], corpus.documents[end:]
    spec = ModelSpec("guide", dtype="float32", max_length=options.max_length)
    guide = CachedGuide(ScorerGuide(load(spec), pairs_per_forward=16_384))
    print(
        f"{len(pairs)} pairs, batch size {options.batch}, epochs: {options.epochs}; "
        f"{options.held_out} held-out queries and documents\n"
    )
    print(
        "| loss | guide calls | saved | excluded negatives | MRR@10 | difference from full (95%) |"
    )
    print("|---|---|---|---|---|---|", flush=True)
    before = reciprocal_ranks(start(options.max_length), *held_out)
    print(f"| untrained | | | | {np.mean(before):.4f} | |", flush=True)
    full: list[float] = []
    for name in (FULL, *PRESETS):
        model, loss, _ = train(name, pairs, guide, options)
        found = reciprocal_ranks(model, *held_out)
        full = full or found
        low, high = bootstrap_interval([a - b for a, b in zip(found, full, strict=True)], 0)
        gain = np.mean(found) - np.mean(full)
        against = "" if name == FULL else f"{gain:+.4f} ({low:+.4f} to {high:+.4f})"
        counters = loss.counters
        print(
            f"| {name} | {counters.calls:,} of {counters.pairs:,} | {counters.share_saved:.1%} "
            f"| {counters.dropped:,} | {np.mean(found):.4f} | {against} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--pairs", type=int, default=384, help="training pairs (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=64, help="batch size (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--rate", type=float, default=1e-4, help="learning rate (default: %(default)s)"
    )
    parser.add_argument(
        "--held-out", type=int, default=400, help="held-out queries (default: %(default)s)"
    )
    parser.add_argument(
        "--max-length", type=int, default=32, help="tokens per text (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    cores, threads = os.cpu_count(), torch.get_num_threads()
    print(f"{date.today()}, {platform.machine()}, {cores} cores, {threads} threads\n", flush=True)
    count()
    roots = [Path(sysconfig.get_path("stdlib"))]
    compare(build(options.pairs + options.held_out, options.seed, roots), options)


if __name__ == "__main__":
    main()
