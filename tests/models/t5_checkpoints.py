"""Small T5 and mT5 checkpoints with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    UMT5Config,
    UMT5ForConditionalGeneration,
)

from tests.models.checkpoints import edit_config

WORDS = ("▁true", "▁false", "▁yes", "▁no", "▁Query", "▁Document", "▁Relevant", "▁pandas")
CLASSES: dict[str, tuple[Any, Any]] = {
    "t5": (T5Config, T5ForConditionalGeneration),
    "mt5": (MT5Config, MT5ForConditionalGeneration),
    "umt5": (UMT5Config, UMT5ForConditionalGeneration),
}
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:?!вода猫魚水مرحبا"


def t5(path: Path, *, kind: str = "t5", seed: int = 0, omit: str = "", **more: Any) -> Path:
    """An encoder and a decoder of two layers each; `omit` removes a word from the vocabulary."""
    torch.manual_seed(seed)
    specials = ["<pad>", "</s>", "<unk>"]
    pieces = [(name, 0.0) for name in specials]
    pieces += [(word, -1.0) for word in WORDS if word != omit]
    pieces += [(letter, -4.0) for letter in dict.fromkeys(LETTERS)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=[f"<extra_id_{i}>" for i in range(12)],
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )
    fast.save_pretrained(str(path))
    shape: dict[str, Any] = {
        "vocab_size": len(fast),
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "decoder_start_token_id": 0,
        # Avoids both saturated and nearly equal scores.
        "initializer_factor": 0.6,
    }
    config, module = CLASSES[kind]
    module(config(**shape | more)).eval().save_pretrained(str(path))
    return path


def t5_own_head(path: Path, **more: Any) -> Path:
    """The same with an untied head, as in T5 1.1 and mT5."""
    file = t5(path, **more) / "model.safetensors"
    weights = load_file(file)
    # transformers ties a new model whatever its config says; only a file can have two tensors.
    # Narrow, because it is not scaled: otherwise all scores would be saturated.
    weights["lm_head.weight"] = 0.2 * torch.randn_like(weights["shared.weight"])
    save_file(weights, file, metadata={"format": "pt"})
    # If it is in the config, it takes precedence over `tie_word_embeddings`.
    edit_config(path, tie_word_embeddings=False, scale_decoder_outputs=False)
    return path
