"""Held-out quality of models trained with a reranker, against the number of reranker calls.

all-MiniLM-L6-v2 (the embedded weights) is trained on docstring pairs with the full loss and with
each preset, from the same start on the same batches; the guide is the embedded reranker. The pairs
are docstrings of the standard library, so that the same Python gives the same ones. Before that the
calls at the full batch size are counted by a guide without a model.

Run: `make bench NAME=training`.
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


class Remembered:
    """A guide that asks another about each pair once, so that all losses hear the same scores."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._known: dict[tuple[str, str], float] = {}

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        asked = list(zip(queries, documents, strict=True))
        new = [(q, [d for d in part if (q, d) not in self._known]) for q, part in asked]
        new = [(q, part) for q, part in new if part]
        answers = self._guide.score([q for q, _ in new], [part for _, part in new]) if new else []
        for (query, part), scores in zip(new, answers, strict=True):
            self._known.update(((query, d), s) for d, s in zip(part, scores, strict=True))
        return [[self._known[query, d] for d in part] for query, part in asked]


class Silent:
    """A guide without a model, which holds nothing back."""

    def score(
        self, queries: Sequence[str], documents: Sequence[Sequence[str]]
    ) -> list[np.ndarray[Any, Any]]:
        return [np.zeros(len(part), dtype=np.float32) for part in documents]


class Given(torch.nn.Module):
    """A model that looks its embeddings up: token id to vector."""

    def __init__(self, vectors: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(vectors, freeze=False)

    def forward(self, features: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": self.table(features["input_ids"][:, 0])}


def loss_of(name: str, model: SentenceTransformer, guide: Guide) -> RerankerCachedGISTEmbedLoss:
    """The loss that a line of the table stands for."""
    if name == FULL:
        return RerankerCachedGISTEmbedLoss(model, guide, temperature=0.05)
    return OptimizedRerankerCachedGISTEmbedLoss(model, guide, cast(Preset, name), temperature=0.05)


def start(max_length: int) -> SentenceTransformer:
    model = SentenceTransformer(str(embedded.folder()), device="cpu")
    model.max_seq_length = max_length
    return model


def train(name: str, pairs: Dataset, guide: Guide, options: argparse.Namespace) -> Any:
    """A trained model, its loss with the counters, and the seconds that it took."""
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
    """1/rank of each query's own document among all, 0 beyond the tenth."""
    sides = [
        torch.tensor(model.encode(list(texts), normalize_embeddings=True, batch_size=64))
        for texts in (queries, documents)
    ]
    cosines = sides[0] @ sides[1].T
    ranks = (cosines > cosines.diagonal()[:, None]).sum(dim=1) + 1
    return [1 / int(rank) if rank <= 10 else 0.0 for rank in ranks]


def count() -> None:
    """The most calls that one batch of the full size can cost, all its texts being alike.

    No model takes part: the embeddings are given, the guide holds nothing back.
    """
    torch.manual_seed(0)
    rows = torch.arange(FULL_BATCH)[:, None]
    given = Given(torch.ones(16) + 0.01 * torch.randn(2 * FULL_BATCH, 16))
    features = [
        {
            "input_ids": rows + place * FULL_BATCH,
            "attention_mask": torch.ones_like(rows),
            "texts": [f"{place} {row}" for row in range(FULL_BATCH)],
        }
        for place in (0, 1)
    ]
    print(f"a batch of {FULL_BATCH}, at most\n\n| loss | calls | saved | s |\n|---|---|---|---|")
    for name in (FULL, *PRESETS):
        loss = loss_of(name, cast(Any, torch.nn.Sequential(given)), Silent())
        started = time.perf_counter()
        loss([dict(column) for column in features]).backward()
        taken, counters = time.perf_counter() - started, loss.counters
        saved = f"{counters.share_saved:.2%}"
        print(f"| {name} | {counters.calls:,} of {counters.pairs:,} | {saved} | {taken:.1f} |")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the process {most:.1f} GB\n", flush=True)


def compare(corpus: Corpus, options: argparse.Namespace) -> None:
    """Train with each loss and print a line for it."""
    end = len(corpus.queries) - options.held_out
    pairs = Dataset.from_dict(
        {
            "anchor": list(corpus.queries[: min(options.pairs, end)]),
            "positive": list(corpus.documents[: min(options.pairs, end)]),
        }
    )
    held_out = corpus.queries[end:], corpus.documents[end:]
    spec = ModelSpec("guide", dtype="float32", max_length=options.max_length)
    guide = Remembered(ScorerGuide(load(spec), pairs_per_forward=16_384))
    print(
        f"{len(pairs)} pairs, batch {options.batch}, {options.epochs} epochs; "
        f"{options.held_out} held-out queries over as many documents\n"
    )
    print("| loss | calls | saved | negatives left out | MRR@10 | against the full loss (95%) |")
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
    parser.add_argument("--pairs", type=int, default=384, help="pairs to train on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--max-length", type=int, default=32, help="tokens of a text")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cores, threads = os.cpu_count(), torch.get_num_threads()
    print(f"{date.today()}, {platform.machine()}, {cores} cores, {threads} threads\n", flush=True)
    count()
    roots = [Path(sysconfig.get_path("stdlib"))]
    compare(build(options.pairs + options.held_out, options.seed, roots), options)


if __name__ == "__main__":
    main()
