"""BERT (Devlin et al., NAACL 2019), with module names as in transformers' checkpoints."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.engines.mlx.layers import (
    Activated,
    Weights,
    attend,
    split_heads,
    unknown_activation,
    without_prefix,
)


def unsupported(config: Any) -> str | None:
    """What the config asks for and this module does not define; None if nothing."""
    positions = getattr(config, "position_embedding_type", None) or "absolute"
    if positions != "absolute":
        return f"it does not support {positions!r} position embeddings"
    if getattr(config, "is_decoder", False):
        return "it runs only encoders of this type, not decoders"
    return unknown_activation(config.hidden_act)


def build(config: Any, output: str) -> nn.Module:
    return Classifier(config) if output == "logits" else Encoder(config)


def sanitize(weights: Weights, config: Any) -> Weights:
    """Rename weights to this module's names. Early checkpoints name norms as TensorFlow did."""
    own = without_prefix(weights, "bert.")
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        own = {name.replace(old, new): weight for name, weight in own.items()}
    return own


class Embeddings(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, size)
        self.LayerNorm = nn.LayerNorm(size, eps=config.layer_norm_eps)

    def __call__(self, ids: mx.array, types: mx.array | None) -> mx.array:
        types = mx.zeros_like(ids) if types is None else types
        words = self.word_embeddings(ids) + self.token_type_embeddings(types)
        return self.LayerNorm(words + self.position_embeddings(self.positions(ids)))

    def positions(self, ids: mx.array) -> mx.array:
        return mx.arange(ids.shape[1])[None]


class SelfAttention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        size = config.hidden_size
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self._heads = config.num_attention_heads

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        queries, keys, values = (
            split_heads(layer(x), self._heads) for layer in (self.query, self.key, self.value)
        )
        return attend(queries, keys, values, mask)


class AddedOutput(nn.Module):
    """A dense layer whose output is added to the residual and normalised."""

    def __init__(self, inner: int, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, x: mx.array, before: mx.array) -> mx.array:
        return self.LayerNorm(self.dense(x) + before)


class Attention(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.self = SelfAttention(config)
        self.output = AddedOutput(config.hidden_size, config)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        return self.output(self.self(x, mask), x)


class Layer(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Activated(
            config.hidden_size, config.intermediate_size, config.hidden_act
        )
        self.output = AddedOutput(config.intermediate_size, config)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class Stack(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.layer = [Layer(config) for _ in range(config.num_hidden_layers)]


class Encoder(nn.Module):
    """Ids, mask and types, each [rows, tokens], to hidden states [rows, tokens, hidden]."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embeddings = self.embeddings_of(config)
        self.encoder = Stack(config)

    def embeddings_of(self, config: Any) -> nn.Module:
        return Embeddings(config)

    def __call__(self, ids: mx.array, mask: mx.array, types: mx.array | None) -> mx.array:
        x, keys = self.embeddings(ids, types), mask[:, None, None, :]
        for layer in self.encoder.layer:
            x = layer(x, keys)
        return x


class Pooler(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)


class Classifier(Encoder):
    """Logits [rows, labels], from the first token."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.pooler = Pooler(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def __call__(self, ids: mx.array, mask: mx.array, types: mx.array | None) -> mx.array:
        first = super().__call__(ids, mask, types)[:, 0]
        return self.classifier(mx.tanh(self.pooler.dense(first)))
