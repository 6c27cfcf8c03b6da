"""Parts that the architectures share: activations, attention, pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

Weights = dict[str, mx.array]

ACTIVATIONS: Mapping[str, Callable[[mx.array], mx.array]] = {
    "gelu": nn.gelu,
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "relu": nn.relu,
    "silu": nn.silu,
}


def unknown_activation(name: str) -> str | None:
    """The reason why the activation is not supported; None if it is."""
    return None if name in ACTIVATIONS else f"it does not support the activation {name!r}"


def split_heads(x: mx.array, heads: int) -> mx.array:
    """[rows, tokens, heads * size] to [rows, heads, tokens, size]."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def attend(
    queries: mx.array, keys: mx.array, values: mx.array, mask: mx.array | str | None
) -> mx.array:
    """Attention over [rows, heads, tokens, size], merged to [rows, tokens, heads * size].

    `mask` is true where a query attends to a key, and broadcasts to [rows, heads, queries, keys].
    """
    scale = queries.shape[-1] ** -0.5
    found = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
    return found.transpose(0, 2, 1, 3).reshape(found.shape[0], found.shape[2], -1)


def without_prefix(weights: Weights, prefix: str) -> Weights:
    """Rename the base model's weights as in a checkpoint without a head."""
    return {name.removeprefix(prefix): weight for name, weight in weights.items()}


def masked_mean(hidden: mx.array, mask: mx.array) -> mx.array:
    """Mean over each row's unmasked tokens, in float32: [rows, tokens, size] to [rows, size]."""
    weights = mask.astype(mx.float32)[:, :, None]
    mean = (hidden.astype(mx.float32) * weights).sum(axis=1) / weights.sum(axis=1)
    return mean.astype(hidden.dtype)


class Activated(nn.Module):
    """A dense layer and its activation."""

    def __init__(self, inner: int, outer: int, activation: str) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, outer)
        self._activation = ACTIVATIONS[activation]

    def __call__(self, x: mx.array) -> Any:
        return self._activation(self.dense(x))
