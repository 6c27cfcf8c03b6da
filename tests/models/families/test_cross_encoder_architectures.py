"""The architectures of common cross-encoders, against sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder as Reference
from transformers import (
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer, relevance
from tests.models.checkpoints import (
    edit_config,
    embedded_tokenizer,
    tiny_bert_cross_encoder,
    tiny_xlmr_cross_encoder,
)

POSITIONS = 96
QUERIES = ["what do pandas eat", "a query beyond the half of the row " * 20, "質問"]
TEXTS = [
    "",
    "Pandas eat bamboo.",
    "猫と魚と水",
    "вода и огонь",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "emoji 😀 and símbolos",
    "far beyond the maximum length " * 100,
]
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    # Wide initial weights: with 0.02 all documents would score alike and hide mistakes.
    "initializer_range": 0.5,
    "num_labels": 1,
}


def _electra(**more: Any) -> PreTrainedModel:
    config = ElectraConfig(
        vocab_size=30522, embedding_size=16, max_position_embeddings=POSITIONS, **SHAPE | more
    )
    return ElectraForSequenceClassification(config)


def _deberta(**more: Any) -> PreTrainedModel:
    """mxbai-rerank v1: DeBERTa-v3's relative positions and pooler."""
    config = DebertaV2Config(
        vocab_size=30522,
        max_position_embeddings=POSITIONS,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        **SHAPE | more,
    )
    return DebertaV2ForSequenceClassification(config)


def _modernbert(**more: Any) -> PreTrainedModel:
    """gte-reranker-modernbert: local attention, except in every third layer."""
    config = ModernBertConfig(
        vocab_size=30522,
        max_position_embeddings=POSITIONS,
        local_attention=8,
        pad_token_id=0,
        cls_token_id=101,
        sep_token_id=102,
        initializer_cutoff_factor=2.0,
        **{**SHAPE, "num_hidden_layers": 4, "classifier_pooling": "mean"} | more,
    )
    return ModernBertForSequenceClassification(config)


KINDS: dict[str, Callable[..., PreTrainedModel]] = {
    "electra": _electra,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
}


def save_architecture(path: Path, make: Callable[..., PreTrainedModel], **more: Any) -> Path:
    torch.manual_seed(0)
    make(**more).eval().save_pretrained(str(path))
    embedded_tokenizer(path, POSITIONS)
    return path


def _roberta(path: Path) -> Path:
    """An XLM-R checkpoint with RoBERTa's class: positions start after the pad index in both."""
    tiny_xlmr_cross_encoder(path)
    torch.manual_seed(1)
    given = PretrainedConfig.from_pretrained(path)
    config = RobertaConfig(
        vocab_size=given.vocab_size, max_position_embeddings=66, type_vocab_size=1, **SHAPE
    )
    RobertaForSequenceClassification(config).eval().save_pretrained(str(path))
    return path


@pytest.fixture(scope="module", params=[*KINDS, "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp(request.param)
    return (
        _roberta(path)
        if request.param == "roberta"
        else save_architecture(path, KINDS[request.param])
    )


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return load(ModelSpec("m", source=str(folder), dtype="float32"))


@pytest.mark.parametrize("query", QUERIES)
def test_logits_equal_the_reference(folder: Path, scorer: Scorer, query: str) -> None:
    reference = Reference(str(folder), device="cpu")
    pairs = [(query, text) for text in TEXTS]
    expected = reference.predict(pairs, activation_fn=torch.nn.Identity()).tolist()
    assert [s.logit for s in scorer.score(query, TEXTS)] == pytest.approx(expected, abs=1e-4)
    if query == QUERIES[0]:
        assert max(expected) - min(expected) > 0.05  # otherwise the test would show nothing


def test_scores_do_not_depend_on_the_other_documents(scorer: Scorer) -> None:
    documents = [f"{text[:200]} {i}" for i in range(38) for text in TEXTS][:300]
    together = scorer.forward([scorer.encode("q", documents), scorer.encode("other", TEXTS)])[0]
    alone = [scorer.score("q", [document])[0].logit for document in documents[::23]]
    assert [s.logit for s in together][::23] == pytest.approx(alone, abs=1e-4)


def test_tokens_match_the_references_tokenizer(folder: Path, scorer: Scorer) -> None:
    tokenizer = Reference(str(folder), device="cpu").tokenizer
    pairs = ["q"] * len(TEXTS), TEXTS
    rows = tokenizer(*pairs, truncation="longest_first", max_length=scorer.info.max_length)
    expected = [len(row) for row in rows["input_ids"]]
    assert [score.tokens for score in scorer.score("q", TEXTS)] == expected


@pytest.mark.parametrize("kind", [*KINDS])
@pytest.mark.parametrize(("labels", "label"), [(2, None), (3, 2), (3, "LABEL_0"), (3, "1")])
def test_with_several_labels_relevance_is_the_probability_of_one(
    tmp_path: Path, kind: str, labels: int, label: int | str | None
) -> None:
    path = save_architecture(tmp_path, KINDS[kind], num_labels=labels)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32", label=label))
    index = {None: 1, "LABEL_0": 0, "1": 1}.get(label, label)  # type: ignore[arg-type]
    reference = Reference(str(path), device="cpu")
    pairs = [("q", text) for text in TEXTS]
    expected = reference.predict(pairs, apply_softmax=True)[:, index].tolist()
    found = [relevance(s.logit, scorer.info.activation) for s in scorer.score("q", TEXTS)]
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("labels", "label", "match"),
    [(3, None, "3 labels .LABEL_0"), (3, "entailment", "no label 'entailment'"), (2, 5, "label 5")],
)
def test_an_ambiguous_or_unknown_label_is_refused(
    tmp_path: Path, labels: int, label: int | str | None, match: str
) -> None:
    path = tiny_bert_cross_encoder(tmp_path, labels=labels)
    with pytest.raises(ModelLoadError, match=match):
        load(ModelSpec("m", source=str(path), label=label))


def test_a_tokenizer_without_a_pad_token_is_accepted(tmp_path: Path) -> None:
    path = _roberta(tmp_path)
    expected = [
        s.logit for s in load(ModelSpec("m", source=str(path), dtype="float32")).score("q", TEXTS)
    ]
    edit_config(path, "tokenizer_config.json", pad_token=None)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    assert [s.logit for s in scorer.score("q", TEXTS)] == pytest.approx(expected, abs=1e-5)


def test_extra_weights_are_ignored_and_missing_ones_named(tmp_path: Path) -> None:
    path = save_architecture(tmp_path, _electra, num_labels=1)
    expected = load(ModelSpec("m", source=str(path), dtype="float32")).score("q", TEXTS)
    weights = load_file(path / "model.safetensors")
    extra = {**weights, "another_head.weight": torch.zeros(3, 32)}
    save_file(extra, path / "model.safetensors", metadata={"format": "pt"})
    assert load(ModelSpec("m", source=str(path), dtype="float32")).score("q", TEXTS) == expected
    edit_config(path, architectures=["BertForSequenceClassification"], model_type="bert")
    with pytest.raises(ModelLoadError, match="lacks weights for"):
        load(ModelSpec("m", source=str(path)))


def test_a_head_that_does_not_match_the_config_is_refused(tmp_path: Path) -> None:
    path = save_architecture(tmp_path, _electra, num_labels=1)
    edit_config(path, hidden_size=16)
    with pytest.raises(ModelLoadError, match="could not be loaded"):
        load(ModelSpec("m", source=str(path)))
