"""bge-reranker-v2-minicpm-layerwise: a decoder with a head at each of its later layers.

https://huggingface.co/BAAI/bge-reranker-v2-minicpm-layerwise. MiniCPM (Hu et al., 2024) is
Llama with three multipliers, which transformers' Granite also has. The checkpoint's weights
therefore run as Granite, without the checkpoint's own code, and only up to the chosen layer.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from models.checkpoint import Checkpoint
from models.engines import engine_for
from models.families.causal import Causal, recipe_of
from models.types import ModelLoadError

# The model card's choice for a checkpoint of 40 layers.
USUAL_LAYER = 28


def matches(checkpoint: Checkpoint) -> bool:
    return "LayerWiseMiniCPMForCausalLM" in checkpoint.architectures


class Layerwise(Causal):
    """Reads the score at `spec.layer`; a lower layer is faster."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        config = checkpoint.config
        first, last = int(config.start_layer), int(config.num_hidden_layers)
        layer = checkpoint.spec.layer or (USUAL_LAYER if first <= USUAL_LAYER <= last else last)
        if not first <= layer <= last:
            raise ModelLoadError(
                f"{checkpoint.spec.source!r} can be read at layers {first} to {last}, not {layer}"
            )
        weights = checkpoint.weights()
        head = weights.get(f"lm_head.{layer - first}.linear_head.weight")
        if head is None or head.shape[0] != 1:
            raise ModelLoadError(
                f"{checkpoint.spec.source!r} has no head with one output at layer {layer}"
            )
        make = partial(_decoder, checkpoint, weights, layer)
        self._setup(
            checkpoint,
            recipe_of(checkpoint),
            engine_for(checkpoint, make, output="last_token"),
            head,
            family="layerwise",
            detail=f"layer {layer}",
        )


def _decoder(checkpoint: Checkpoint, weights: dict[str, Any], layers: int) -> Any:
    from transformers import GraniteConfig, GraniteModel

    given = checkpoint.config
    heads = int(given.num_attention_heads)
    config = GraniteConfig(
        vocab_size=given.vocab_size,
        hidden_size=given.hidden_size,
        intermediate_size=given.intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=getattr(given, "num_key_value_heads", None) or heads,
        hidden_act=given.hidden_act,
        max_position_embeddings=given.max_position_embeddings,
        rms_norm_eps=given.rms_norm_eps,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": float(getattr(given, "rope_theta", None) or 10000.0),
        },
        attention_bias=bool(getattr(given, "attention_bias", False)),
        embedding_multiplier=float(given.scale_emb),
        # From the checkpoint's full depth, even if fewer layers run.
        residual_multiplier=float(given.scale_depth) / math.sqrt(given.num_hidden_layers),
        attention_multiplier=1 / math.sqrt(given.hidden_size // heads),
        pad_token_id=None,
    )
    module = GraniteModel(config)
    own = {
        name.removeprefix("model."): tensor.float()
        for name, tensor in weights.items()
        if name.startswith("model.") and "rotary_emb" not in name
    }
    missing = [name for name in module.state_dict() if name not in own]
    if missing:
        raise ModelLoadError(
            f"{checkpoint.spec.source!r} lacks weights for {', '.join(missing[:3])} "
            f"({len(missing)} in total): it is not a fine-tuned reranker"
        )
    module.load_state_dict(own, strict=False)
    return module
