"""A checkpoint's safetensors into an MLX module: names, precision, quantization."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import torch
from mlx.utils import tree_flatten

from models.checkpoint import Checkpoint
from models.engines.mlx import architecture, quantization_of
from models.engines.mlx.layers import Weights
from models.types import ModelLoadError

# Numbers that share a scale and an offset, by bits; the first that divides a layer's width. With
# four bits, groups of 32 rank the embedded model's documents closer to float32 than those of 64.
GROUP_SIZES = {8: (64, 32, 128), 4: (32, 64, 128)}
# Half of a small model's weights or more. Eight bits change no score by more than the rest does.
WORDS, WORD_BITS = ("word_embeddings", "tok_embeddings", "embed_tokens"), 8
# A few rows, that every score goes through.
KEPT = ("classifier", "head", "pooler")


def read(checkpoint: Checkpoint) -> Weights:
    """Every tensor by this package's names. Nothing is in memory yet: MLX reads when it computes.

    Raises ModelLoadError where the folder has none.
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
    """Give the module its weights in `dtype`, quantized to `bits` where they are not already.

    Raises ModelLoadError where weights are missing or of another shape than the config says.
    """
    source, found = checkpoint.spec.source, read(checkpoint)
    given = quantization_of(checkpoint)
    if given is not None:
        nn.quantize(module, class_predicate=_as_given(given, found))
    wanted = dict(tree_flatten(module.parameters()))
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ModelLoadError(
            f"{source!r} lacks weights for {', '.join(missing[:3])} ({len(missing)} in all): it "
            "is not a fine-tuned reranker"
        )
    for name, weight in wanted.items():
        if found[name].shape != weight.shape:
            raise ModelLoadError(
                f"{source!r}: {name} is {list(found[name].shape)}, and {list(weight.shape)} by "
                "its config"
            )
    module.load_weights([(name, _cast(found[name], dtype)) for name in wanted])
    module.eval()
    if bits is not None and given is None:
        quantize(module, bits, source)
    # What is left to compute belongs to this thread's stream, and could not be read in another.
    mx.eval(module.parameters())


def quantize(module: nn.Module, bits: int, source: str) -> None:
    """Quantize the layers below the head, and the words' vectors to eight bits.

    Raises ModelLoadError where no layer has a width that groups divide.
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
    """Rows of a decoder's last layer, [rows, hidden] in float32."""
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
    """How a layer is quantized: as all are, unless the config has an entry of its own for it."""
    entries = (given.get(name) for name in (path, f"model.{path}"))
    own = next((entry for entry in entries if isinstance(entry, Mapping)), given)
    return {name: own[name] for name in ("group_size", "bits", "mode") if name in own}


def _cast(weight: mx.array, dtype: mx.Dtype) -> mx.array:
    return weight.astype(dtype) if mx.issubdtype(weight.dtype, mx.floating) else weight
