"""How long a row may be: the setting, the tokenizer's word, the model's positions."""

from __future__ import annotations

from typing import Any

from models.checkpoint import Checkpoint
from models.types import ModelLoadError

# Model types outside RoBERTa's name that count positions as it does.
_OFFSET_TYPES = {"camembert", "mpnet", "longformer", "data2vec-text"}
# What is read of a model that names no limit of its own.
UNBOUNDED = 8192


def position_limit(config: Any) -> int | None:
    """Tokens that the checkpoint has positions for; RoBERTa's kind begins after the pad index."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or int(positions) <= 0:
        return None
    if "roberta" not in config.model_type and config.model_type not in _OFFSET_TYPES:
        return int(positions)
    # MPNet fixes its pad index to 1 whatever the config says.
    pad = 1 if config.model_type == "mpnet" else config.pad_token_id
    return int(positions) - pad - 1


def max_length_of(checkpoint: Checkpoint, default: int | None = None) -> int:
    """The row length in tokens. Raises ModelLoadError for one beyond the model's positions.

    `default` is the family's own, where the checkpoint's files name none.
    """
    spec = checkpoint.spec
    limit = position_limit(checkpoint.config)
    if spec.max_length is not None:
        if limit is not None and spec.max_length > limit:
            raise ModelLoadError(
                f"{spec.name}: a max_length of {spec.max_length} is beyond the model's {limit} "
                "positions; lower RERANKER_MAX_LENGTH"
            )
        return spec.max_length
    own = default or int(min(checkpoint.tokenizer.model_max_length, 10**6))
    return min(own, limit) if limit is not None else min(own, UNBOUNDED)
