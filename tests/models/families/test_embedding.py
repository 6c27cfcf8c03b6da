"""Document vectors of a bi-encoder, as used by MMR."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from models import embedded
from models.families import embedding
from models.registry import load
from models.types import ModelSpec, ScoreOptions, ScoringError

DOCUMENTS = ["Pandas eat bamboo.", "Stock prices fell.", "", "Pandas eat bamboo."]


def test_vectors_match_sentence_transformers() -> None:
    spec = ModelSpec(
        "dense", family="bi-encoder", dtype="float32", representation_cache_bytes=2**20
    )
    scorer = load(spec)
    assert scorer.info.embeds
    scorer.score("what do pandas eat?", DOCUMENTS[:1])
    encoded = scorer.encode_documents(DOCUMENTS)
    assert len(encoded.rows) == 2, "the scored document is cached"
    vectors = scorer.embed(encoded)
    reference = SentenceTransformer(str(embedded.folder()), device="cpu").encode(DOCUMENTS)
    assert vectors.dtype == np.float32
    # Cached representations are rounded to fp16.
    np.testing.assert_allclose(vectors, reference, atol=1e-3)
    again = scorer.encode_documents(DOCUMENTS)
    assert not again.rows
    np.testing.assert_array_equal(scorer.embed(again), vectors)

    short = scorer.embed(
        scorer.encode_documents(["Pandas eat"], ScoreOptions(max_tokens_per_doc=1))
    )
    whole = scorer.embed(scorer.encode_documents(["Pandas"]))
    assert not np.array_equal(short, scorer.embed(scorer.encode_documents(["Pandas eat"])))
    assert short.shape == whole.shape


def test_other_families_have_no_embeddings() -> None:
    scorer = load(ModelSpec("maxsim"))
    assert not scorer.info.embeds
    with pytest.raises(ScoringError, match="maxsim gives no embeddings"):
        scorer.encode_documents(DOCUMENTS)


@pytest.mark.parametrize("family", ["bi-encoder", "auto"])
@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_long_requests_are_run_in_parts(
    monkeypatch: pytest.MonkeyPatch, family: str, cache_bytes: int
) -> None:
    spec = ModelSpec(
        "m",
        family=family,
        dtype="float32",
        token_budget=16,
        representation_cache_bytes=cache_bytes,
    )
    scorer, documents = load(spec), [f"document {i} of some words" for i in range(40)]
    documents[7] = documents[3]
    expected = [score.logit for score in scorer.score("a query", documents)]
    scorer = load(spec)
    monkeypatch.setattr(embedding, "TOKENS_AT_ONCE", 16)
    scorer.score("a query", documents[5:9])
    found = [score.logit for score in scorer.score("a query", documents)]
    assert found == pytest.approx(expected, abs=1e-5)
