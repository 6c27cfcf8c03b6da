"""Cross-encoders against sentence-transformers' CrossEncoder on the same checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder as Reference

from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer, ScoringError, relevance
from tests.models.checkpoints import tiny_bert_cross_encoder

TEXTS = [
    "",
    "a short one",
    "Pandas eat bamboo. " * 5,
    "a text far beyond the maximum length " * 100,
    "日本語の文書です",
    "العربية نص قصير",
    "emoji 😀 and símbolos",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert_cross_encoder(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return load(ModelSpec("tiny", source=str(folder), dtype="float32"))


@pytest.mark.parametrize("query", ["what do pandas eat", "a long query " * 60, "質問"])
def test_logits_equal_the_reference(folder: Path, scorer: Scorer, query: str) -> None:
    reference = Reference(str(folder), device="cpu")
    identity = torch.nn.Identity()
    expected = reference.predict([(query, t) for t in TEXTS], activation_fn=identity)
    logits = [score.logit for score in scorer.score(query, TEXTS)]
    assert logits == pytest.approx(expected.tolist(), abs=1e-4)


def test_relevance_equals_the_references_default(folder: Path, scorer: Scorer) -> None:
    expected = Reference(str(folder), device="cpu").predict([("q", t) for t in TEXTS])
    scores = [relevance(s.logit, scorer.info.activation) for s in scorer.score("q", TEXTS)]
    assert scores == pytest.approx(expected.tolist(), abs=1e-5)


def test_scores_do_not_depend_on_the_other_documents(scorer: Scorer) -> None:
    documents = [f"{text} {i}" for i in range(9) for text in TEXTS]
    together = scorer.forward([scorer.encode("q", documents), scorer.encode("other", TEXTS)])[0]
    alone = [scorer.score("q", [document])[0] for document in documents]
    assert [s.logit for s in together] == pytest.approx([s.logit for s in alone], abs=1e-4)


def test_truncation_and_tokens_are_reported(scorer: Scorer) -> None:
    scores = scorer.score("q", TEXTS)
    assert [s.truncated for s in scores] == [False, False, False, True, False, False, False]
    assert scores[3].tokens == scorer.info.max_length == 128
    assert scores[0].tokens == 4


def test_bf16_keeps_close_to_fp32(folder: Path, scorer: Scorer) -> None:
    half = load(ModelSpec("half", source=str(folder), dtype="bfloat16"))
    exact = torch.tensor([s.logit for s in scorer.score("q", TEXTS)])
    rough = torch.tensor([s.logit for s in half.score("q", TEXTS)])
    assert torch.corrcoef(torch.stack([exact, rough]))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("labels", "max_length", "match"),
    [(3, None, "3 labels"), (1, 512, "exceeds the model's 128 positions")],
)
def test_unsupported_heads_and_lengths_are_refused(
    tmp_path: Path, labels: int, max_length: int | None, match: str
) -> None:
    path = tiny_bert_cross_encoder(tmp_path, labels=labels)
    with pytest.raises(ModelLoadError, match=match):
        load(ModelSpec("bad", source=str(path), max_length=max_length))


def test_nan_raises_an_error_that_names_the_model(tmp_path: Path) -> None:
    scorer = load(ModelSpec("broken", source=str(tiny_bert_cross_encoder(tmp_path, nan=True))))
    with pytest.raises(ScoringError, match="broken"):
        scorer.score("q", ["d"])
