"""Qwen2, Qwen3 and Gemma without their heads: one decoder that differs by config.

Qwen2 has biases on queries, keys and values. Qwen3 normalises each head's queries and keys. Gemma
scales its embeddings, and its norms multiply by their weight plus one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.engines.mlx.layers import (
    ACTIVATIONS,
    Weights,
    attend,
    split_heads,
    unknown_activation,
    without_prefix,
)

# Keys and values of each layer, [1, heads, tokens, head size].
Past = list[tuple[mx.array, mx.array]]


def unsupported(config: Any) -> str | None:
    """What the config asks for and this module does not define; None if nothing."""
    rope = config.rope_parameters["rope_type"]
    if rope != "default":
        return f"it does not support rotary positions of type {rope!r}"
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "it does not support sliding attention in decoders"
    return unknown_activation(config.hidden_act)


def build(config: Any, output: str) -> nn.Module:
    return Decoder(config)


def sanitize(weights: Weights, config: Any) -> Weights:
    own = without_prefix(weights, "model.")
    if config.model_type != "gemma":
        return own
    norms = ("norm.weight", "layernorm.weight")
    return {
        name: weight.astype(mx.float32) + 1 if name.endswith(norms) else weight
        for name, weight in own.items()
    }


def head_name(weights: Weights, config: Any) -> str:
    """The name of the checkpoint's output layer, [labels or vocabulary, hidden]."""
    if "score.weight" in weights:
        return "score"
    tied = config.tie_word_embeddings or "lm_head.weight" not in weights
    return "embed_tokens" if tied else "lm_head"


class Attention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        size, heads = config.hidden_size, config.num_attention_heads
        self._heads, self._groups = heads, config.num_key_value_heads
        self._size = getattr(config, "head_dim", None) or size // heads
        self._theta = float(config.rope_parameters["rope_theta"])
        bias = bool(getattr(config, "attention_bias", False))
        inward = bias or config.model_type == "qwen2"
        self.q_proj = nn.Linear(size, heads * self._size, bias=inward)
        self.k_proj = nn.Linear(size, self._groups * self._size, bias=inward)
        self.v_proj = nn.Linear(size, self._groups * self._size, bias=inward)
        self.o_proj = nn.Linear(heads * self._size, size, bias=bias)
        self._normed = config.model_type == "qwen3"
        if self._normed:
            self.q_norm = nn.RMSNorm(self._size, eps=config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(self._size, eps=config.rms_norm_eps)

    def __call__(
        self, x: mx.array, mask: mx.array | str, past: tuple[mx.array, mx.array] | None
    ) -> tuple[mx.array, mx.array, mx.array]:
        """The output, and the keys and values of these tokens and the earlier ones."""
        queries = split_heads(self.q_proj(x), self._heads)
        keys = split_heads(self.k_proj(x), self._groups)
        values = split_heads(self.v_proj(x), self._groups)
        if self._normed:
            queries, keys = self.q_norm(queries), self.k_norm(keys)
        start = 0 if past is None else past[0].shape[2]
        queries, keys = self._turn(queries, start), self._turn(keys, start)
        if past is not None:
            keys, values = (
                mx.concatenate([mx.broadcast_to(old, (len(x), *old.shape[1:])), new], axis=2)
                for old, new in zip(past, (keys, values), strict=True)
            )
        return self.o_proj(attend(queries, keys, values, mask)), keys, values

    def _turn(self, x: mx.array, start: int) -> mx.array:
        size = self._size
        return mx.fast.rope(x, size, traditional=False, base=self._theta, scale=1.0, offset=start)


class FeedForward(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(size, inner, bias=False)
        self.up_proj = nn.Linear(size, inner, bias=False)
        self.down_proj = nn.Linear(inner, size, bias=False)
        self._activation = ACTIVATIONS[config.hidden_act]

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(self._activation(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = FeedForward(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class Decoder(nn.Module):
    """Ids [rows, tokens] to hidden states [rows, tokens, hidden]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self._scale = config.hidden_size**0.5 if config.model_type == "gemma" else None

    def __call__(self, ids: mx.array, mask: mx.array | None, past: Past | None) -> mx.array:
        """`mask` is needed only if rows have masked tokens other than padding.

        `past`: the result of `prefill` for the tokens before every row.
        """
        x, _ = self._through(ids, self._mask(mask, past), past)
        return self.norm(x)

    def prefill(self, prefix: Sequence[int]) -> Past:
        """Keys and values of the tokens before every row."""
        _, kept = self._through(mx.array([list(prefix)], dtype=mx.int32), "causal", None)
        return kept

    def _through(
        self, ids: mx.array, mask: mx.array | str, past: Past | None
    ) -> tuple[mx.array, Past]:
        x = self.embed_tokens(ids)
        if self._scale is not None:
            x = x * mx.array(self._scale, dtype=x.dtype)
        kept: Past = []
        for i, layer in enumerate(self.layers):
            before = None if past is None else past[i]
            seen, keys, values = layer.self_attn(layer.input_layernorm(x), mask, before)
            x = x + seen
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            kept.append((keys, values))
        return x, kept

    @staticmethod
    def _mask(mask: mx.array | None, past: Past | None) -> mx.array | str:
        if mask is None:  # padding is on the right, so no token that is read attends to it
            return "causal"
        start, length = 0 if past is None else past[0][0].shape[2], mask.shape[1]
        earlier = mx.arange(start + length)[None] <= mx.arange(start, start + length)[:, None]
        before = mx.ones((len(mask), start), dtype=mx.bool_)
        return earlier & mx.concatenate([before, mask], axis=1)[:, None, None, :]
