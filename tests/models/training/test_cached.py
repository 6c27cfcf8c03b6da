"""Embedding in mini-batches, twice: sizes, autocast and evaluation."""

from __future__ import annotations

import torch
from sentence_transformers import SentenceTransformer

from models.training import RerankerCachedGISTEmbedLoss
from tests.models.training.conftest import PAIRS
from tests.models.training.stubs import WordGuide, features, gradients, lookup


def test_at_most_a_mini_batch_is_embedded_at_a_time() -> None:
    model = lookup(torch.randn(8, 4))
    loss = RerankerCachedGISTEmbedLoss(model, WordGuide(), mini_batch_size=3)
    loss(features(PAIRS)).backward()
    # Two columns of four rows, embedded twice.
    assert model[0].rows == [3, 1] * 4


def test_the_second_pass_uses_the_autocast_of_the_first(model: SentenceTransformer) -> None:
    dtypes: list[torch.dtype] = []
    loss = RerankerCachedGISTEmbedLoss(
        model, WordGuide(), mini_batch_size=2, temperature=0.05, contrast_anchors=False
    )
    plain = gradients(model, loss([model.preprocess(column) for column in PAIRS]))
    layer = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
    handle = layer.register_forward_hook(lambda m, i, out: dtypes.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss([model.preprocess(column) for column in PAIRS])
    found = gradients(model, value)
    handle.remove()
    assert set(dtypes) == {torch.bfloat16}
    assert len(dtypes) == 8
    assert value.dtype == torch.float32
    together = torch.cat([g.flatten() for g in found]), torch.cat([g.flatten() for g in plain])
    assert torch.nn.functional.cosine_similarity(*together, dim=0) > 0.98


def test_evaluation_needs_no_gradients(model: SentenceTransformer) -> None:
    loss = RerankerCachedGISTEmbedLoss(model, WordGuide(), mini_batch_size=3)
    with torch.no_grad():
        value = loss([model.preprocess(column) for column in PAIRS])
    assert value.isfinite()
    assert not value.requires_grad
