"""Pairs a second of each engine beside sentence-transformers' CrossEncoder, on the same weights.

Run: `make bench-engines`. Ways of scoring take turns, so that a drift of the machine's speed meets
all; the median of their times counts. Error and rank agreement are against float32.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kendalltau
from sentence_transformers import CrossEncoder
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from models import embedded
from models.engines import openvino_engine
from models.registry import load
from models.types import ModelSpec

TOKENIZER_FILES = (
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
WORDS = ["search", "query", "document", "the", "of", "and", "model", "vector", "river", "mountain"]
WORDS += ["bamboo", "panda", "station", "train", "music", "history", "language", "house", "window"]
QUERY = "which documents speak of bamboo in the mountains"
Way = Callable[[list[str]], list[float]]


def checkpoint(shape: str, folder: Path) -> Path:
    """Real architecture and size; random weights but for MiniLM's trunk."""
    torch.manual_seed(0)
    path = folder / shape
    if shape == "minilm-l6":
        config = BertConfig.from_pretrained(embedded.folder(), num_labels=1)
        module: Any = BertForSequenceClassification.from_pretrained(
            embedded.folder(), config=config
        )
    elif shape == "bert-base":
        module = BertForSequenceClassification(BertConfig(num_labels=1))
    else:
        module = XLMRobertaForSequenceClassification(
            XLMRobertaConfig(
                vocab_size=250002,
                hidden_size=1024,
                num_hidden_layers=24,
                num_attention_heads=16,
                intermediate_size=4096,
                max_position_embeddings=8194,
                type_vocab_size=1,
                pad_token_id=0,
                num_labels=1,
            )
        )
    # A head wide enough for scores that differ.
    torch.nn.init.normal_(list(module.parameters())[-2], std=0.5)
    module.eval().save_pretrained(path)
    for name in TOKENIZER_FILES:
        shutil.copy(embedded.folder() / name, path / name)
    return path


def texts(count: int, long: bool, seed: int = 0) -> list[str]:
    """Documents of log-normal length (median 60 words), or of 512 tokens and more."""
    chooser = random.Random(seed)
    lengths = [600 if long else max(3, int(chooser.lognormvariate(4.1, 0.7))) for _ in range(count)]
    return [" ".join(chooser.choices(WORDS, k=length)) for length in lengths]


def ways(path: Path) -> dict[str, Way]:
    """Name to a function that scores documents for the query."""
    reference = CrossEncoder(str(path), device="cpu", max_length=512)
    identity = torch.nn.Identity()

    def theirs(documents: list[str]) -> list[float]:
        pairs = [(QUERY, document) for document in documents]
        scores: list[float] = reference.predict(pairs, activation_fn=identity).tolist()
        return scores

    def ours(**options: Any) -> Way:
        scorer = load(ModelSpec("m", source=str(path), max_length=512, **options))
        return lambda documents: [score.logit for score in scorer.score(QUERY, documents)]

    found = {
        "sentence-transformers fp32": theirs,
        "torch fp32": ours(dtype="float32"),
        "torch bf16": ours(dtype="bfloat16"),
    }
    if openvino_engine.installed():
        found["openvino fp32"] = ours(dtype="float32", backend="openvino")
        found["openvino bf16"] = ours(dtype="bfloat16", backend="openvino")
    return found


def measure(path: Path, documents: list[str], repeats: int) -> list[dict[str, Any]]:
    """One row for each way: pairs a second, its ratio to the first, error, agreement."""
    all_ways = ways(path)
    found: dict[str, list[float]] = {name: way(documents) for name, way in all_ways.items()}
    times: dict[str, list[float]] = {name: [] for name in all_ways}
    for _ in range(repeats):
        for name, way in all_ways.items():
            started = time.perf_counter()
            way(documents)
            times[name].append(time.perf_counter() - started)
    exact = found["sentence-transformers fp32"]
    base = statistics.median(times["sentence-transformers fp32"])
    rows = []
    for name in all_ways:
        middle = statistics.median(times[name])
        spread = (max(times[name]) - min(times[name])) / middle
        rows.append(
            {
                "way": name,
                "pairs_per_s": round(len(documents) / middle, 1),
                "ratio": round(base / middle, 2),
                "spread": round(spread, 2),
                "max_error": max(abs(a - b) for a, b in zip(exact, found[name], strict=True)),
                "kendall_tau": round(float(kendalltau(exact, found[name]).statistic), 4),
            }
        )
    return rows


def multiply_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a multiplication of the models' kind."""
    a, b = torch.randn(2048, 1536).to(dtype), torch.randn(1536, 2048).to(dtype)
    best = 0.0
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048 * 2048 * 1536 / (time.perf_counter() - started) / 1e9)
    return best


def machine() -> dict[str, Any]:
    """What the processor offers."""
    names = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.is_file() else []
    return {
        "cores": len(os.sched_getaffinity(0)),
        "offers": [name for name in names if name in flags],
        "fp32_gflops": round(multiply_rate(torch.float32)),
        "bf16_gflops": round(multiply_rate(torch.bfloat16)),
    }


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["minilm-l6", "bert-base"])
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="documents of 512 tokens")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine(), "shapes": {}}
    print(json.dumps(report["machine"]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for shape in options.shapes:
            path = checkpoint(shape, Path(folder))
            rows = measure(path, texts(options.documents, options.long), options.repeats)
            report["shapes"][shape] = rows
            print(f"\n{shape}")
            for row in rows:
                print("  {way:28} {pairs_per_s:8} pairs/s  x{ratio:<6}".format(**row), end="")
                print(" tau {kendall_tau}  error {max_error:.1e}".format(**row), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
