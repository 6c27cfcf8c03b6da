"""The maximum row length: from the setting, the tokenizer and the model's positions."""

from __future__ import annotations

from typing import Any

from models.checkpoint import Checkpoint
from models.types import ModelLoadError

# Model types without `roberta` in their name that number positions as RoBERTa does.
_OFFSET_TYPES = {"camembert", "mpnet", "longformer", "data2vec-text"}
# The maximum for a model that declares none.
UNBOUNDED = 8192


def position_limit(config: Any) -> int | None:
    """Number of tokens that the checkpoint has positions for, or None if it declares no limit.

    RoBERTa-like models number positions from the pad index + 1.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or int(positions) <= 0:
        return None
    if "roberta" not in config.model_type and config.model_type not in _OFFSET_TYPES:
        return int(positions)
    # MPNet's pad index is always 1, whatever the config says.
    pad = 1 if config.model_type == "mpnet" else config.pad_token_id
    return int(positions) - pad - 1


def max_length_of(checkpoint: Checkpoint, default: int | None = None) -> int:
    """The maximum row length in tokens.

    `default` is the family's, for a checkpoint whose files give none. Raises ModelLoadError if the
    spec's maximum exceeds the model's positions.
    """
    spec = checkpoint.spec
    limit = position_limit(checkpoint.config)
    if spec.max_length is not None:
        if limit is not None and spec.max_length > limit:
            raise ModelLoadError(
                f"{spec.name}: a max_length of {spec.max_length} exceeds the model's {limit} "
                "positions; lower RERANKER_MAX_LENGTH"
            )
        return spec.max_length
    own = default or int(min(checkpoint.tokenizer.model_max_length, 10**6))
    return min(own, limit) if limit is not None else min(own, UNBOUNDED)
