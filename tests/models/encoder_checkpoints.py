"""sentence-transformers folders with random weights: encoder, pooling, dense layers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel, Qwen3Config, Qwen3Model

from tests.models.checkpoints import edit_config, embedded_tokenizer
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
    """The files that SentenceTransformer.save_pretrained writes."""
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


def in_a_subfolder(path: Path) -> None:
    """The encoder in 0_Transformer, as in the first versions."""
    own = ("modules.json", "config_sentence_transformers.json")
    files = [file for file in path.iterdir() if file.is_file() and file.name not in own]
    (path / "0_Transformer").mkdir()
    for file in files:
        shutil.move(file, path / "0_Transformer" / file.name)
    modules = json.loads((path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (path / "modules.json").write_text(json.dumps(modules))


def with_early_settings(path: Path) -> None:
    """A maximum length only in the settings, in a file named as in early versions."""
    edit_config(path, "sentence_bert_config.json", max_seq_length=12)
    (path / "sentence_bert_config.json").rename(path / "sentence_roberta_config.json")


def with_lower_case(path: Path) -> None:
    """A tokenizer that keeps case, with settings that ask for lower case."""
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["normalizer"] |= {"lowercase": False, "strip_accents": False}
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit_config(path, "tokenizer_config.json", do_lower_case=False, strip_accents=False)
    edit_config(path, "sentence_bert_config.json", do_lower_case=True)


def stanford_colbert(path: Path, *, omit: str = "", **metadata: Any) -> Path:
    """colbert-ir/colbertv2.0's layout: BERT under `bert.`, a projection, artifact.metadata."""
    bert_encoder(path / "bert", positions=128)
    torch.manual_seed(2)
    weights = {f"bert.{k}": v for k, v in load_file(path / "bert" / "model.safetensors").items()}
    weights["linear.weight"] = torch.randn(16, 32)
    for file in (path / "bert").iterdir():
        file.rename(path / file.name)
    (path / "bert").rmdir()
    kept = {name: tensor for name, tensor in weights.items() if name != omit}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    edit_config(path, architectures=["HF_ColBERT"])
    saved = {
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": 24,
        "doc_maxlen": 48,
        "dim": 16,
        "mask_punctuation": True,
        "attend_to_mask_tokens": False,
    }
    (path / "artifact.metadata").write_text(json.dumps(saved | metadata))
    return path


def pylate_colbert(path: Path, **config: Any) -> Path:
    """The files that PyLate's ColBERT.save_pretrained writes."""
    encoder = bert_encoder(path / "encoder", positions=128)
    torch.manual_seed(3)
    transformer = Transformer(str(encoder), max_seq_length=47)
    transformer.tokenizer.add_tokens(["[Q] ", "[D] "])
    transformer.auto_model.resize_token_embeddings(len(transformer.tokenizer))
    layers = [
        Dense(32, 24, bias=False, activation_function=torch.nn.Identity()),
        Dense(24, 16, bias=False, activation_function=torch.nn.Identity()),
    ]
    model = SentenceTransformer(modules=[transformer, *layers], device="cpu")
    model.save_pretrained(str(path / "folder"))
    saved = {"model_type": "ColBERT", "query_length": 24, "document_length": 48}
    saved |= {"query_prefix": "[Q] ", "document_prefix": "[D] "}
    edit_config(path / "folder", "config_sentence_transformers.json", **saved | config)
    _with_pylate_layers(path / "folder")
    return path / "folder"


def _with_pylate_layers(path: Path) -> None:
    """Layers as PyLate saves them: with its own class, and without input and output names."""
    modules = json.loads((path / "modules.json").read_text())
    for module in modules[1:]:
        module["type"] = "pylate.models.Dense.Dense"
        file = path / module["path"] / "config.json"
        layer = json.loads(file.read_text())
        names = ("in_features", "out_features", "bias", "activation_function")
        file.write_text(json.dumps({n: layer[n] for n in names} | {"use_residual": False}))
    (path / "modules.json").write_text(json.dumps(modules))
