"""The architectures that run on MLX, and what a checkpoint says about its own. Imports no MLX."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from models.checkpoint import Checkpoint

# Bits per weight, by the spec's dtype.
BITS = {"8bit": 8, "4bit": 4}
ENCODERS = ("logits", "last_hidden_state")
DECODERS = ("last_token", "last_hidden_state")
# By model type: the module that defines the architecture, and the outputs it can give.
ARCHITECTURES = {
    "bert": ("bert", ENCODERS),
    "roberta": ("roberta", ENCODERS),
    "xlm-roberta": ("roberta", ENCODERS),
    "camembert": ("roberta", ENCODERS),
    "modernbert": ("modernbert", ENCODERS),
    "qwen2": ("decoder", DECODERS),
    "qwen3": ("decoder", DECODERS),
    "gemma": ("decoder", DECODERS),
}


def quantization_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The config's entry about weights quantized by MLX, or None if there is none."""
    found = (checkpoint.part_json("config.json") or {}).get("quantization")
    return found if isinstance(found, dict) and "bits" in found else None


def is_decoder(checkpoint: Checkpoint) -> bool:
    return ARCHITECTURES[checkpoint.model_type][1] is DECODERS


def architecture(checkpoint: Checkpoint) -> Any:
    """The module that defines the checkpoint's architecture. It imports MLX."""
    name, _ = ARCHITECTURES[checkpoint.model_type]
    return import_module(f"models.engines.mlx.{name}")
