"""sentence-transformers folders with random weights: encoder, pooling, dense layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel, Qwen3Config, Qwen3Model

from tests.models.checkpoints import embedded_tokenizer
from tests.models.decoder_checkpoints import SHAPE, tokenizer

PROMPTS = {"query": "query: ", "passage": "passage: "}


def bert_encoder(path: Path, *, seed: int = 0, positions: int = 64) -> Path:
    """A two-layer BERT without a head."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    BertModel(config).eval().save_pretrained(str(path))
    embedded_tokenizer(path, positions)
    return path


def qwen3_encoder(path: Path, *, seed: int = 0) -> Path:
    """Qwen3-Embedding's architecture."""
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    config = Qwen3Config(vocab_size=tokenizer(path), head_dim=8, pad_token_id=0, **SHAPE)
    Qwen3Model(config).eval().save_pretrained(str(path))
    return path


def folder(
    encoder: Path,
    path: Path,
    *,
    pooling: Any = "mean",
    dense: tuple[torch.nn.Module, ...] = (),
    normalize: bool = False,
    prompts: dict[str, str] | None = None,
    similarity: str = "cosine",
    max_length: int = 64,
) -> Path:
    """What SentenceTransformer.save_pretrained writes."""
    torch.manual_seed(1)
    transformer = Transformer(str(encoder), max_seq_length=max_length)
    pooled = Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling)
    size = pooled.pooling_output_dimension
    parts: list[torch.nn.Module] = [transformer, pooled]
    parts += [Dense(size, size, activation_function=activation) for activation in dense]
    if normalize:
        parts.append(Normalize())
    model = SentenceTransformer(
        modules=parts, device="cpu", prompts=prompts, similarity_fn_name=similarity
    )
    model.save_pretrained(str(path))
    return path


def with_old_pooling_names(path: Path) -> Path:
    """The folder as versions before 6 wrote it."""
    file = path / "1_Pooling" / "config.json"
    config = json.loads(file.read_text())
    modes = {f"pooling_mode_{name}_tokens": name == "mean" for name in ("mean", "max")}
    modes["pooling_mode_cls_token"] = True
    size = config["embedding_dimension"]
    file.write_text(json.dumps({"word_embedding_dimension": size, **modes}))
    return path
