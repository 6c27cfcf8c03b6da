"""The cached loss equals the uncached loss for all options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss, MatryoshkaLoss

from models.training import (
    FunctionGuide,
    OptimizedRerankerCachedGISTEmbedLoss,
    RerankerCachedGISTEmbedLoss,
)
from tests.models.training.conftest import ANCHORS, NEGATIVES, PAIRS, POSITIVES
from tests.models.training.stubs import ConstantGuide, WordGuide, gradients, lookup, reference_loss

EVERYTHING: dict[str, Any] = {
    "similarity_threshold": -1,
    "top_k_ratio": 1,
    "min_top_k": 99,
    "max_candidates": 99,
    "hybrid_threshold": -1,
}


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def embed(model: SentenceTransformer, columns: list[list[str]]) -> list[torch.Tensor]:
    return [model(model.preprocess(column))["sentence_embedding"] for column in columns]


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(
    ("columns", "options", "reference_options"),
    [
        (PAIRS, {}, {}),
        ([*PAIRS, *NEGATIVES], {"margin": 0.5}, {"margin": 0.5}),
        (
            [*PAIRS, NEGATIVES[0]],
            {"margin": 0.3, "margin_strategy": "relative"},
            {"margin": 0.3, "relative": True},
        ),
        (
            [*PAIRS, NEGATIVES[0]],
            {"contrast_anchors": False, "contrast_positives": False},
            {"anchors": False, "positives": False},
        ),
        ([[*ANCHORS, ANCHORS[0]], [*POSITIVES, POSITIVES[1]]], {}, {}),
    ],
)
def test_loss_and_gradients_equal_the_uncached_loss(
    model: SentenceTransformer,
    columns: list[list[str]],
    options: dict[str, Any],
    reference_options: dict[str, Any],
    optimized: bool,
) -> None:
    expected = reference_loss(
        columns, embed(model, columns), WordGuide(), temperature=0.05, **reference_options
    )
    wanted = gradients(model, expected)
    options = {"temperature": 0.05, "mini_batch_size": 3, **options}
    loss: RerankerCachedGISTEmbedLoss
    if optimized:
        loss = OptimizedRerankerCachedGISTEmbedLoss(model, WordGuide(), **EVERYTHING, **options)
    else:
        loss = RerankerCachedGISTEmbedLoss(model, WordGuide(), **options)
    found = loss([model.preprocess(column) for column in columns])
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
    assert_close(gradients(model, found), wanted)
    assert loss.counters.dropped > 0


def test_with_an_embedding_model_as_guide_it_equals_gist(model: SentenceTransformer) -> None:
    def cosine(pairs: list[tuple[str, str]]) -> list[float]:
        queries = model.encode([q for q, _ in pairs], normalize_embeddings=True)
        return (
            (queries * model.encode([d for _, d in pairs], normalize_embeddings=True))
            .sum(1)
            .tolist()
        )

    columns = [*PAIRS, *NEGATIVES]
    theirs = CachedGISTEmbedLoss(model, model, temperature=0.05, mini_batch_size=3)
    expected = theirs([model.preprocess(column) for column in columns], torch.empty(0))
    wanted = gradients(model, expected)
    ours = RerankerCachedGISTEmbedLoss(
        model, FunctionGuide(cosine), temperature=0.05, mini_batch_size=3
    )
    found = ours([model.preprocess(column) for column in columns])
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-5, atol=1e-5)
    assert_close(gradients(model, found), wanted)


def test_it_works_inside_a_matryoshka_loss(model: SentenceTransformer) -> None:
    guide = WordGuide()
    loss = RerankerCachedGISTEmbedLoss(model, guide, mini_batch_size=3)
    value = MatryoshkaLoss(model, loss, [32, 8])(
        [model.preprocess(column) for column in PAIRS], torch.empty(0)
    )
    assert all(g.isfinite().all() for g in gradients(model, value))
    assert len(guide.asked) == len(set(guide.asked))


def test_a_guide_that_is_a_torch_module_is_not_trained() -> None:
    class Module(torch.nn.Linear):
        score = ConstantGuide().score

    loss = RerankerCachedGISTEmbedLoss(lookup(torch.randn(8, 4)), Module(2, 2))
    assert [name for name, _ in loss.named_parameters()] == ["model.0.table.weight"]
