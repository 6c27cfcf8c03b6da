"""Document vectors of a bi-encoder, as used by MMR."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from models import embedded
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
