"""RoBERTa, XLM-R and CamemBERT: BERT with different positions and another head."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.engines.mlx import bert
from models.engines.mlx.layers import Weights, without_prefix

unsupported = bert.unsupported


def build(config: Any, output: str) -> nn.Module:
    return Classifier(config) if output == "logits" else Encoder(config)


def sanitize(weights: Weights, config: Any) -> Weights:
    return without_prefix(weights, "roberta.")


class Embeddings(bert.Embeddings):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._pad = config.pad_token_id

    def positions(self, ids: mx.array) -> mx.array:
        """Positions from the pad index + 1, over tokens other than padding."""
        real = (ids != self._pad).astype(mx.int32)
        return mx.cumsum(real, axis=1) * real + self._pad


class Encoder(bert.Encoder):
    def embeddings_of(self, config: Any) -> nn.Module:
        return Embeddings(config)


class Head(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)


class Classifier(Encoder):
    """Logits [rows, labels], from the first token."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.classifier = Head(config)

    def __call__(self, ids: mx.array, mask: mx.array, types: mx.array | None) -> mx.array:
        first = super().__call__(ids, mask, types)[:, 0]
        return self.classifier.out_proj(mx.tanh(self.classifier.dense(first)))
