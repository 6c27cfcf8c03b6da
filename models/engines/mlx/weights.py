"""Loads a checkpoint's safetensors into an MLX module: names, precision, quantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx.utils import tree_flatten

from models.checkpoint import Checkpoint
from models.engines.mlx.architectures import architecture, quantization_of
from models.engines.mlx.layers import Weights
from models.types import ModelLoadError

# How many numbers share a scale and an offset, by bits; the first that divides a layer's width is
# used. With 4 bits, groups of 32 rank the embedded model's documents closer to float32 than 64.
GROUP_SIZES = {8: (64, 32, 128), 4: (32, 64, 128)}
# Word embeddings are half of a small model's weights or more. In 8 bits they change scores no more
# than the other layers do.
WORDS, WORD_BITS = ("word_embeddings", "tok_embeddings", "embed_tokens"), 8
# Not quantized: few rows, which affect every score.
KEPT = ("classifier", "head", "pooler")


def read(checkpoint: Checkpoint) -> Weights:
    """All tensors by this package's names. They are lazy: MLX reads them when it computes.

    Raises ModelLoadError if the folder has no safetensors files.
    """
    files = sorted(checkpoint.path.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} has no safetensors weights in {checkpoint.path}"
        )
    found: Weights = {}
    for file in files:
        found.update(mx.load(str(file)))
    own: Weights = architecture(checkpoint).sanitize(found, checkpoint.config)
    return own


def fill(module: nn.Module, checkpoint: Checkpoint, dtype: mx.Dtype, bits: int | None) -> None:
    """Load the module's weights in `dtype`, quantized to `bits` unless they already are quantized.

    Raises ModelLoadError if weights are missing or do not have the shape that the config gives.
    """
    source, found = checkpoint.spec.source, read(checkpoint)
    given = quantization_of(checkpoint)
    if given is not None:
        nn.quantize(module, class_predicate=_as_given(given, found))
    wanted = dict(tree_flatten(module.parameters()))
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ModelLoadError(
            f"{source!r} lacks weights for {', '.join(missing[:3])} ({len(missing)} in total): "
            "it is not a fine-tuned reranker"
        )
    for name, weight in wanted.items():
        if found[name].shape != weight.shape:
            raise ModelLoadError(
                f"{source!r}: {name} is {list(found[name].shape)}, but {list(weight.shape)} "
                "according to its config"
            )
    module.load_weights([(name, _cast(found[name], dtype)) for name in wanted])
    module.eval()
    if bits is not None and given is None:
        quantize(module, bits, source)
    # Evaluated now: a lazy array belongs to this thread's stream, and others could not read it.
    mx.eval(module.parameters())


def quantize(module: nn.Module, bits: int, source: str) -> None:
    """Quantize the layers below the head to `bits`, and the word embeddings to 8 bits.

    Raises ModelLoadError if no layer's width is a multiple of a group size.
    """
    plans: dict[str, dict[str, int]] = {}
    for path, layer in module.named_modules():
        words = path.endswith(WORDS)
        if words or (isinstance(layer, nn.Linear) and not path.startswith(KEPT)):
            wanted, width = WORD_BITS if words else bits, layer.weight.shape[1]
            size = next((size for size in GROUP_SIZES[wanted] if width % size == 0), None)
            if size is not None:
                plans[path] = {"group_size": size, "bits": wanted}
    if all(path.endswith(WORDS) for path in plans):
        raise ModelLoadError(
            f"{source!r} can't be quantized: no layer's width is a multiple of "
            f"{min(GROUP_SIZES[bits])}"
        )
    nn.quantize(module, class_predicate=lambda path, _: plans.get(path, False))


def head_rows(checkpoint: Checkpoint, rows: Sequence[int]) -> torch.Tensor:
    """Rows of a decoder's output layer, [rows, hidden] in float32."""
    weights = read(checkpoint)
    name = architecture(checkpoint).head_name(weights, checkpoint.config)
    places = mx.array(list(rows))
    weight = weights[f"{name}.weight"][places]
    given = quantization_of(checkpoint)
    if given is not None and f"{name}.scales" in weights:
        scales, biases = weights[f"{name}.scales"][places], weights.get(f"{name}.biases")
        options = _options(given, name)
        weight = mx.dequantize(
            weight, scales, None if biases is None else biases[places], **options
        )
    return torch.from_numpy(np.array(weight.astype(mx.float32)))


def _as_given(
    given: Mapping[str, Any], found: Weights
) -> Callable[[str, nn.Module], bool | dict[str, Any]]:
    def choose(path: str, layer: nn.Module) -> bool | dict[str, Any]:
        return _options(given, path) if f"{path}.scales" in found else False

    return choose


def _options(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A layer's quantization: its own entry in the config, or else the general one."""
    entries = (given.get(name) for name in (path, f"model.{path}"))
    own = next((entry for entry in entries if isinstance(entry, Mapping)), given)
    return {name: own[name] for name in ("group_size", "bits", "mode") if name in own}


def _cast(weight: mx.array, dtype: mx.Dtype) -> mx.array:
    return weight.astype(dtype) if mx.issubdtype(weight.dtype, mx.floating) else weight
