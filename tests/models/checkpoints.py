"""Small checkpoints with random weights, created on disk by tests. No network."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from models import embedded

TOKENIZER_FILES = (
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def tiny_bert_cross_encoder(
    path: Path, *, labels: int = 1, positions: int = 128, seed: int = 0, nan: bool = False
) -> Path:
    """A two-layer BERT cross-encoder with the embedded model's tokenizer, saved in `path`.

    `nan` gives its head a weight that makes every logit NaN.
    """
    torch.manual_seed(seed)
    module = BertForSequenceClassification(_bert_config(positions, labels))
    if nan:
        torch.nn.init.constant_(module.classifier.bias, float("nan"))
    _save(module, path)
    embedded_tokenizer(path, positions)
    return path


def tiny_bert_without_head(path: Path, *, positions: int = 128) -> Path:
    """Encoder weights with a config that declares a classifier: not a fine-tuned reranker."""
    _save(BertModel(_bert_config(positions, 1)), path)
    embedded_tokenizer(path, positions)
    edit_config(path, architectures=["BertForSequenceClassification"])
    return path


def tiny_xlmr_cross_encoder(path: Path, *, positions: int = 66, seed: int = 0) -> Path:
    """A two-layer XLM-R cross-encoder (row length: `positions` - 2), Unigram over characters."""
    torch.manual_seed(seed)
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    letters = "▁abcdefghijklmnopqrstuvwxyz0123456789.,?!абвгдежзийклмнопрстуфхцчшщъыьэюя"
    letters += "猫狗魚水火مرحباשלוםनमस्ते"
    vocabulary = [(name, 0.0) for name in specials]
    vocabulary += [(letter, -4.0) for letter in dict.fromkeys(letters)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    config = XLMRobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        num_labels=1,
        initializer_range=0.5,
    )
    _save(XLMRobertaForSequenceClassification(config), path)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=positions - 2,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(str(path))
    return path


def edit_config(path: Path, name: str = "config.json", **changes: Any) -> None:
    """Change entries of a checkpoint's JSON file, which is created if absent."""
    file = path / name
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(content | changes))


def _bert_config(positions: int, labels: int) -> BertConfig:
    # Wide initial weights: with 0.02 all documents would score alike and hide mistakes.
    return BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        num_labels=labels,
        initializer_range=0.5,
    )


# Cached, because it reads and hashes the weights each time.
_embedded_folder = cache(embedded.folder)


def embedded_tokenizer(path: Path, positions: int) -> None:
    for name in TOKENIZER_FILES:
        shutil.copy(_embedded_folder() / name, path / name)
    edit_config(path, "tokenizer_config.json", model_max_length=positions)


def _save(module: Any, path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    module.eval().save_pretrained(str(path))
