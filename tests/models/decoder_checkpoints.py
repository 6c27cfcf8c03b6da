"""Small decoder checkpoints with random weights and a byte-level BPE tokenizer like Qwen's."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3ForSequenceClassification,
)

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bos>")
# Qwen's own splitting: a piece starts at the space before a word.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    # Wide initial weights: with 0.02 all documents would score alike and hide mistakes.
    "initializer_range": 0.2,
}


def tokenizer(path: Path, *, bos: bool = False, pad: bool = True) -> int:
    """Save a byte-level BPE tokenizer; return its size."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    text = ["yes no Yes No query document A B Given the passage Relevance relevant"] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(text, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>" if pad else None,
        bos_token="<bos>" if bos else None,
        padding_side="left",
        model_max_length=131072,
    )
    fast.save_pretrained(str(path))
    return len(fast)


def qwen3(path: Path, *, seed: int = 0, classifier: bool = False, **changes: Any) -> Path:
    """Qwen3-Reranker's architecture; `classifier`: as converted to sequence classification."""
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    config = Qwen3Config(
        vocab_size=tokenizer(path), head_dim=8, pad_token_id=0, num_labels=1, **SHAPE | changes
    )
    kind = Qwen3ForSequenceClassification if classifier else Qwen3ForCausalLM
    kind(config).eval().save_pretrained(str(path))
    return path


def qwen2(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """mxbai-rerank-v2's architecture."""
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    config = Qwen2Config(vocab_size=tokenizer(path), **SHAPE | changes)
    Qwen2ForCausalLM(config).eval().save_pretrained(str(path))
    return path


def gemma(path: Path, *, seed: int = 0, **changes: Any) -> Path:
    """bge-reranker-v2-gemma's architecture."""
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    size = tokenizer(path, bos=True)
    config = GemmaConfig(vocab_size=size, head_dim=8, pad_token_id=0, **SHAPE | changes)
    GemmaForCausalLM(config).eval().save_pretrained(str(path))
    return path


LAYERS, FIRST = 6, 3


def minicpm_layerwise(path: Path, *, seed: int = 0, omit: str = "") -> Path:
    """bge-reranker-v2-minicpm-layerwise's layout, with the checkpoint's own names."""
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    hidden, inner, heads = 32, 64, 4
    vocab = tokenizer(path, bos=True)
    config = {
        "architectures": ["LayerWiseMiniCPMForCausalLM"],
        "model_type": "minicpm",
        "auto_map": {"AutoConfig": "configuration_minicpm_reranker.LayerWiseMiniCPMConfig"},
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": vocab,
        "scale_emb": 12,
        "scale_depth": 1.4,
        "dim_model_base": 256,
        "start_layer": FIRST,
        "head_multi": True,
        "head_type": "simple",
        "bos_token_id": 3,
        "eos_token_id": 0,
    }
    (path / "config.json").write_text(json.dumps(config))
    weights = {"model.embed_tokens.weight": torch.randn(vocab, hidden) * 0.1}
    for i in range(LAYERS):
        start = f"model.layers.{i}."
        for name in ("q", "k", "v", "o"):
            weights[f"{start}self_attn.{name}_proj.weight"] = _matrix(hidden, hidden)
        weights[f"{start}mlp.gate_proj.weight"] = _matrix(inner, hidden)
        weights[f"{start}mlp.up_proj.weight"] = _matrix(inner, hidden)
        weights[f"{start}mlp.down_proj.weight"] = _matrix(hidden, inner)
        for name in ("input", "post_attention"):
            weights[f"{start}{name}_layernorm.weight"] = 1 + 0.1 * torch.randn(hidden)
    weights["model.norm.weight"] = 1 + 0.1 * torch.randn(hidden)
    for i in range(LAYERS - FIRST + 1):
        weights[f"lm_head.{i}.linear_head.weight"] = _matrix(1, hidden)
    save_file({k: v for k, v in weights.items() if k != omit}, path / "model.safetensors")
    return path


def _matrix(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns) * 2 / math.sqrt(columns)
