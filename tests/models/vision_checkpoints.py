"""Small vision-language checkpoints with random weights, and images for them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from models.images import ImageDocument
from tests.models.checkpoints import edit_config
from tests.models.decoder_checkpoints import tokenizer

VISION_TOKENS = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 16384,
    "initializer_range": 0.2,
}


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coloured noise, coarse enough to survive resizing."""
    noise = torch.randint(0, 256, (8, 8, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy()).resize((width, height))


def document(image: Image.Image, text: str = "", kind: str = "png") -> ImageDocument:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return ImageDocument(f"data:image/{kind};base64,{encoded}", text)


def _tokens(path: Path) -> Any:
    path.mkdir(parents=True, exist_ok=True)
    tokenizer(path)
    fast = AutoTokenizer.from_pretrained(path)
    fast.add_special_tokens({"additional_special_tokens": VISION_TOKENS})
    fast.save_pretrained(str(path))
    return fast


def qwen3_vl(path: Path) -> Path:
    """Qwen3-VL-Reranker's architecture."""
    torch.manual_seed(0)
    fast = _tokens(path)
    start, end, image, video = fast.convert_tokens_to_ids(VISION_TOKENS)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    config = Qwen3VLConfig(
        text_config={**TEXT, "vocab_size": len(fast), "head_dim": 16, "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 32,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
            "initializer_range": 0.2,
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    Qwen3VLForConditionalGeneration(config).eval().save_pretrained(str(path))
    saved = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    edit_config(path, "preprocessor_config.json", **saved, **means)
    return path


def jina_m0(path: Path, omit: str = "") -> Path:
    """jina-reranker-m0's layout: Qwen2-VL with an MLP for a head."""
    torch.manual_seed(0)
    fast = _tokens(path)
    start, end, image, video = fast.convert_tokens_to_ids(VISION_TOKENS)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    config = Qwen2VLConfig(
        text_config={**TEXT, "vocab_size": len(fast), "rope_parameters": rope},
        vision_config={
            "depth": 2,
            "embed_dim": 32,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": 0.2,
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    Qwen2VLForConditionalGeneration(config).eval().save_pretrained(str(path))
    weights = load_file(path / "model.safetensors")
    weights.pop("lm_head.weight", None)
    weights["score.0.weight"], weights["score.0.bias"] = torch.randn(32, 32), torch.randn(32)
    weights["score.2.weight"], weights["score.2.bias"] = torch.randn(1, 32), torch.randn(1)
    kept = {name: tensor for name, tensor in weights.items() if name != omit}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    edit_config(path, architectures=["JinaVLForRanking"])
    edit_config(path, "preprocessor_config.json", patch_size=14, merge_size=2)
    return path
