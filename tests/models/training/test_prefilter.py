"""Pairs that the filter decides without asking the guide."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.training import OptimizedRerankerCachedGISTEmbedLoss
from tests.models.training.conftest import NEGATIVES, PAIRS
from tests.models.training.stubs import (
    ConstantGuide,
    WordGuide,
    features,
    lookup,
    make_loss,
    reference_loss,
)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"similarity_threshold": 1.0, "min_top_k": 0}, 0),
        ({"hybrid_threshold": 1.0}, 0),
        ({"max_candidates": 1, "min_top_k": 0, "contrast_anchors": False}, None),
    ],
)
def test_a_prefilter_that_selects_no_or_few_pairs(
    options: dict[str, Any], calls: int | None
) -> None:
    columns = [*PAIRS, *NEGATIVES]
    guide = WordGuide()
    loss, _ = make_loss(columns, guide, optimized=True, **options)
    value = loss(features(columns))
    value.backward()
    assert value.isfinite()
    assert value > 0
    if calls is not None:
        assert len(guide.asked) == calls == loss.counters.calls


def test_pairs_below_the_threshold_are_negatives_without_a_guide_call() -> None:
    """Nothing is excluded, so the result is the plain contrastive loss."""
    loss, vectors = make_loss(
        PAIRS, WordGuide(), optimized=True, similarity_threshold=1.0, min_top_k=0
    )
    expected = reference_loss(PAIRS, vectors.split(4), ConstantGuide(), temperature=0.1)
    torch.testing.assert_close(loss(features(PAIRS)).detach(), expected)


def test_pairs_closer_than_the_positive_are_excluded_without_a_guide_call() -> None:
    vectors = torch.eye(4).repeat(2, 1)
    # The cosine with their anchors is 0 for the first positive, 0.8 for the second.
    vectors[4] = torch.tensor([0.0, 0, 0, 1])
    vectors[5] = torch.tensor([0.8, 0.6, 0, 0])
    guide = WordGuide()
    loss = OptimizedRerankerCachedGISTEmbedLoss(
        lookup(vectors),
        guide,
        similarity_threshold=0.5,
        min_top_k=0,
        hybrid_threshold=1.0,
        contrast_anchors=False,
        contrast_positives=False,
    )
    loss(features(PAIRS))
    # Only row 0 with column 1 (0.8 > 0). Row 3 with column 0 has 1.0, as has its own positive.
    assert guide.asked == []
    assert loss.counters.dropped == 1
