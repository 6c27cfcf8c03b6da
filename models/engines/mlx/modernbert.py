"""ModernBERT (Warner et al., 2024): rotary positions, local attention in most layers."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.engines.mlx.layers import (
    ACTIVATIONS,
    Weights,
    attend,
    masked_mean,
    split_heads,
    unknown_activation,
    without_prefix,
)

LOCAL = "sliding_attention"


def unsupported(config: Any) -> str | None:
    """What the config asks for and this module does not define; None if nothing."""
    for kind in set(config.layer_types):
        rope = config.rope_parameters[kind]["rope_type"]
        if rope != "default":
            return f"it does not support rotary positions of type {rope!r}"
    return unknown_activation(config.hidden_activation) or unknown_activation(
        config.classifier_activation
    )


def build(config: Any, output: str) -> nn.Module:
    return Classifier(config) if output == "logits" else Encoder(config)


def sanitize(weights: Weights, config: Any) -> Weights:
    return without_prefix(weights, "model.")


def _norm(config: Any) -> nn.Module:
    return nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)


class Embeddings(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.norm = _norm(config)

    def __call__(self, ids: mx.array) -> mx.array:
        return self.norm(self.tok_embeddings(ids))


class Attention(nn.Module):
    def __init__(self, config: Any, kind: str) -> None:
        super().__init__()
        size, bias = config.hidden_size, config.attention_bias
        self.Wqkv = nn.Linear(size, 3 * size, bias=bias)
        self.Wo = nn.Linear(size, size, bias=bias)
        self._heads = config.num_attention_heads
        self._theta = float(config.rope_parameters[kind]["rope_theta"])

    def __call__(self, x: mx.array, mask: mx.array) -> mx.array:
        queries, keys, values = (
            split_heads(part, self._heads) for part in mx.split(self.Wqkv(x), 3, axis=-1)
        )
        return self.Wo(attend(self._turn(queries), self._turn(keys), values, mask))

    def _turn(self, x: mx.array) -> mx.array:
        size = x.shape[-1]
        return mx.fast.rope(x, size, traditional=False, base=self._theta, scale=1.0, offset=0)


class FeedForward(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        size, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.Wi = nn.Linear(size, 2 * inner, bias=bias)
        self.Wo = nn.Linear(inner, size, bias=bias)
        self._activation = ACTIVATIONS[config.hidden_activation]

    def __call__(self, x: mx.array) -> mx.array:
        value, gate = mx.split(self.Wi(x), 2, axis=-1)
        return self.Wo(self._activation(value) * gate)


class Layer(nn.Module):
    def __init__(self, config: Any, index: int) -> None:
        super().__init__()
        kind = config.layer_types[index]
        # The first layer's input, the embeddings, is already normalised.
        self.attn_norm = _norm(config) if index else nn.Identity()
        self.attn = Attention(config, kind)
        self.mlp_norm = _norm(config)
        self.mlp = FeedForward(config)
        self._local = kind == LOCAL

    def __call__(self, x: mx.array, everywhere: mx.array, near: mx.array) -> mx.array:
        x = x + self.attn(self.attn_norm(x), near if self._local else everywhere)
        return x + self.mlp(self.mlp_norm(x))


class Encoder(nn.Module):
    """Ids and mask, each [rows, tokens], to hidden states [rows, tokens, hidden]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = [Layer(config, i) for i in range(config.num_hidden_layers)]
        self.final_norm = _norm(config)
        self._reach = config.local_attention // 2

    def __call__(self, ids: mx.array, mask: mx.array, types: mx.array | None = None) -> mx.array:
        everywhere = mask[:, None, None, :]
        places = mx.arange(ids.shape[1])
        apart = mx.abs(places[:, None] - places[None])
        # Padding far from any token attends to itself: a softmax over nothing would give NaN, which
        # the next global layer would spread.
        near = ((apart <= self._reach) & everywhere) | (apart == 0)
        x = self.embeddings(ids)
        for layer in self.layers:
            x = layer(x, everywhere, near)
        return self.final_norm(x)


class Head(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.classifier_bias)
        self.norm = _norm(config)
        self._activation = ACTIVATIONS[config.classifier_activation]

    def __call__(self, x: mx.array) -> mx.array:
        return self.norm(self._activation(self.dense(x)))


class Classifier(Encoder):
    """Logits [rows, labels], from the first token or the mean, as the config says."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.head = Head(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self._mean = config.classifier_pooling == "mean"

    def __call__(self, ids: mx.array, mask: mx.array, types: mx.array | None = None) -> mx.array:
        hidden = super().__call__(ids, mask)
        pooled = masked_mean(hidden, mask) if self._mean else hidden[:, 0]
        return self.classifier(self.head(pooled))
