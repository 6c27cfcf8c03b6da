"""Benchmark inputs: checkpoints of real architectures and sizes, documents of real lengths."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from models import embedded

SHAPES = ("minilm-l6", "bert-base", "xlm-r-large")
TOKENIZER_FILES = (
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
WORDS = ["search", "query", "document", "the", "of", "and", "model", "vector", "river", "mountain"]
WORDS += ["bamboo", "panda", "station", "train", "music", "history", "language", "house", "window"]
QUERY = "which documents speak of bamboo in the mountains"


def checkpoint(shape: str, folder: Path) -> Path:
    """Write a checkpoint; only MiniLM's encoder is not random.

    Architecture and size are real, except for those of `tiny`, whose forward pass takes no time.
    """
    torch.manual_seed(0)
    path = folder / shape
    if shape == "minilm-l6":
        config = BertConfig.from_pretrained(embedded.folder(), num_labels=1)
        module: Any = BertForSequenceClassification.from_pretrained(
            embedded.folder(), config=config
        )
    elif shape == "bert-base":
        module = BertForSequenceClassification(BertConfig(num_labels=1))
    elif shape == "tiny":
        config = BertConfig(
            num_labels=1,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
        module = BertForSequenceClassification(config)
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
    # Head weights large enough that scores differ.
    torch.nn.init.normal_(list(module.parameters())[-2], std=0.5)
    module.eval().save_pretrained(path)
    for name in TOKENIZER_FILES:
        shutil.copy(embedded.folder() / name, path / name)
    if shape == "xlm-r-large":
        # Without token type ids: this architecture has only one type.
        file = path / "tokenizer_config.json"
        named = {"model_input_names": ["input_ids", "attention_mask"]}
        file.write_text(json.dumps({**json.loads(file.read_text()), **named}))
    return path


def texts(count: int, long: bool = False, seed: int = 0) -> list[str]:
    """Generate documents of log-normal length (median 60 words), or of at least 512 tokens."""
    rng = random.Random(seed)
    lengths = [600 if long else max(3, int(rng.lognormvariate(4.1, 0.7))) for _ in range(count)]
    return [" ".join(rng.choices(WORDS, k=length)) for length in lengths]


def flops(path: Path, lengths: list[int]) -> float:
    """Count the floating-point operations in the matrix products for rows of these lengths."""
    config = BertConfig.from_pretrained(path)
    size, inner = config.hidden_size, config.intermediate_size
    weights = 4 * size * size + 2 * size * inner
    counted: float = sum(
        2.0 * config.num_hidden_layers * length * (weights + 2 * length * size)
        for length in lengths
    )
    return counted
