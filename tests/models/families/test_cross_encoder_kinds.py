"""Other aspects of cross-encoders: XLM-R's positions, saved activations, missing heads."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder as Reference
from transformers import AutoTokenizer

from models.families.cross_encoder import activation_of
from models.lengths import position_limit
from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer
from tests.models.checkpoints import (
    edit_config,
    tiny_bert_cross_encoder,
    tiny_bert_without_head,
    tiny_xlmr_cross_encoder,
)

SCRIPTS = ["a cat", "", "猫 狗", "вода и огонь", "مرحبا", "שלום", "नमस्ते", "water 水 " * 60, "?!"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_xlmr_cross_encoder(tmp_path_factory.mktemp("xlmr"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return load(ModelSpec("xlmr", source=str(folder), dtype="float32"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(str(folder), device="cpu")


def _expected(reference: Reference, query: str, documents: list[str]) -> list[float]:
    pairs = [(query, document) for document in documents]
    values: list[float] = reference.predict(pairs, activation_fn=torch.nn.Identity()).tolist()
    return values


@pytest.mark.parametrize("query", ["what", "", "длинный запрос " * 40])
def test_xlmr_equals_the_reference(scorer: Scorer, reference: Reference, query: str) -> None:
    logits = [s.logit for s in scorer.score(query, SCRIPTS)]
    assert logits == pytest.approx(_expected(reference, query, SCRIPTS), abs=1e-4)
    assert len(set(logits)) > 1


@pytest.mark.parametrize("count", [1, 2, 17, 64])
def test_any_number_of_documents_equals_the_reference(
    scorer: Scorer, reference: Reference, count: int
) -> None:
    chance = random.Random(count)
    documents = [" ".join(chance.choices(SCRIPTS, k=chance.randint(1, 9))) for _ in range(count)]
    logits = [s.logit for s in scorer.score("q", documents)]
    assert logits == pytest.approx(_expected(reference, "q", documents), abs=1e-4)


def test_xlmr_has_two_positions_fewer(scorer: Scorer, folder: Path) -> None:
    assert scorer.info.max_length == 64
    with pytest.raises(ModelLoadError, match="64 positions"):
        load(ModelSpec("m", source=str(folder), max_length=65))


@pytest.mark.parametrize(
    ("model_type", "pad", "limit"),
    [("bert", 0, 514), ("camembert", 1, 512), ("mpnet", 1, 512), ("xlm-roberta", 1, 512)],
)
def test_position_limits(model_type: str, pad: int, limit: int) -> None:
    config = SimpleNamespace(model_type=model_type, pad_token_id=pad, max_position_embeddings=514)
    assert position_limit(config) == limit


def test_the_activation_saved_by_sentence_transformers_is_used(tmp_path: Path) -> None:
    tiny_bert_cross_encoder(tmp_path / "plain")
    reference = Reference(str(tmp_path / "plain"), device="cpu", activation_fn=torch.nn.Identity())
    reference.save_pretrained(str(tmp_path / "saved"))
    assert load(ModelSpec("m", source=str(tmp_path / "plain"))).info.activation == "sigmoid"
    assert load(ModelSpec("m", source=str(tmp_path / "saved"))).info.activation == "identity"


@pytest.mark.parametrize(
    "entry",
    [
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_the_activation_in_the_config_is_used(tmp_path: Path, entry: dict[str, object]) -> None:
    edit_config(tiny_bert_cross_encoder(tmp_path), **entry)
    assert load(ModelSpec("m", source=str(tmp_path))).info.activation == "identity"


def test_an_unknown_activation_is_refused() -> None:
    config = SimpleNamespace(sentence_transformers={"activation_fn": "torch.nn.Tanh"})
    with pytest.raises(ModelLoadError, match="Tanh"):
        activation_of(config)


def test_a_checkpoint_without_a_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"classifier.*not a fine-tuned reranker"):
        load(ModelSpec("m", source=str(tiny_bert_without_head(tmp_path))))


def test_damaged_weights_raise_one_error(tmp_path: Path) -> None:
    weights = tiny_bert_cross_encoder(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelLoadError, match="could not be loaded") as caught:
        load(ModelSpec("m", source=str(tmp_path)))
    assert caught.value.__cause__ is not None


def test_lone_surrogates_are_replaced_and_text_normalized(folder: Path, scorer: Scorer) -> None:
    replaced, lone = scorer.score("q", ["a\ufffdb", "a\ud800b"])
    assert lone == replaced
    tidy = load(ModelSpec("m", source=str(folder), dtype="float32", normalize_text=True))
    untidy, clean = tidy.score("q", ["cafe\u0301\x00  x", "café x"])
    assert untidy.logit == pytest.approx(clean.logit, abs=1e-5)


@pytest.mark.parametrize("make", [tiny_bert_cross_encoder, tiny_xlmr_cross_encoder])
def test_rows_equal_the_tokenizers_pairs(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    scorer = load(ModelSpec("m", source=str(path), max_length=40))
    tokenizer = AutoTokenizer.from_pretrained(path)

    @given(st.text(max_size=200), st.lists(st.text(max_size=200), min_size=1, max_size=5))
    @settings(max_examples=100, deadline=None)
    def check(query: str, documents: list[str]) -> None:
        encoded = scorer.encode(query, documents)
        pairs = [query] * len(documents), documents
        full = tokenizer(*pairs, truncation="longest_first", max_length=40)
        assert [list(row.input_ids) for row in encoded.rows] == full["input_ids"]
        types = full.get("token_type_ids")
        assert [row.type_ids for row in encoded.rows] == (types or [None] * len(documents))
        assert encoded.truncated == [bool(encoding.overflowing) for encoding in full.encodings]

    check()
