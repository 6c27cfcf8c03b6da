"""MaxSim on the embedded weights against the formula on sentence-transformers' token vectors."""

from __future__ import annotations

import pytest
import torch
from sentence_transformers import SentenceTransformer

from models import embedded
from models.registry import load
from models.types import ModelSpec, Scorer

QUERY = "how do pandas eat?"
TEXTS = [
    "Stock prices fell sharply.",
    "Pandas eat bamboo by stripping it with their teeth.",
    "日本語の文書です",
    "",
    "word " * 1000,
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load(ModelSpec("embedded", dtype="float32"))


def test_scores_equal_the_formula(scorer: Scorer) -> None:
    reference = SentenceTransformer(str(embedded.folder()), device="cpu")

    def vectors(text: str) -> torch.Tensor:
        tokens = reference.encode([text], output_value="token_embeddings")[0]
        return torch.nn.functional.normalize(tokens, dim=-1)

    query = vectors(QUERY)
    expected = [float((query @ vectors(t).T).amax(dim=1).mean()) for t in TEXTS]
    assert [s.logit for s in scorer.score(QUERY, TEXTS)] == pytest.approx(expected, abs=1e-4)


def test_the_right_document_is_first_and_the_long_one_truncated(scorer: Scorer) -> None:
    scores = scorer.score(QUERY, TEXTS)
    assert max(range(len(TEXTS)), key=lambda i: scores[i].logit) == 1
    assert [s.truncated for s in scores] == [False, False, False, False, True]
    assert scorer.info.max_length == 256


def test_scores_do_not_depend_on_the_other_documents(scorer: Scorer) -> None:
    together = scorer.forward([scorer.encode(QUERY, TEXTS), scorer.encode("other", TEXTS)])
    alone = [scorer.score(QUERY, [text])[0].logit for text in TEXTS]
    assert [s.logit for s in together[0]] == pytest.approx(alone, abs=1e-4)


def test_no_documents_give_no_scores(scorer: Scorer) -> None:
    assert scorer.score(QUERY, []) == []
