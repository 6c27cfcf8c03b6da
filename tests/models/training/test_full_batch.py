"""Guide calls for a batch of 2,048, counted by a guide without a model."""

from __future__ import annotations

import pytest
import torch

from models.training import (
    PRESETS,
    OptimizedRerankerCachedGISTEmbedLoss,
    RerankerCachedGISTEmbedLoss,
)
from tests.models.training.stubs import ConstantGuide, features, lookup

ROWS = 2048
ALL = 12_582_912
COLUMNS = [[f"{name}{i}" for i in range(ROWS)] for name in "qd"]


def vectors(*, alike: bool) -> torch.Tensor:
    torch.manual_seed(0)
    noise = torch.randn(2 * ROWS, 16)
    return torch.ones(16) + 0.01 * noise if alike else noise


@pytest.mark.parametrize(
    ("preset", "alike"), [*((name, True) for name in PRESETS), ("conservative", False)]
)
def test_every_preset_saves_at_least_95_percent_of_the_calls(preset: str, alike: bool) -> None:
    """Also if all texts are similar, the worst case for a filter by cosines."""
    guide = ConstantGuide()
    loss = OptimizedRerankerCachedGISTEmbedLoss(
        lookup(vectors(alike=alike)), guide, preset, mini_batch_size=256
    )
    loss(features(COLUMNS)).backward()
    assert loss.counters.pairs == ALL
    assert loss.counters.calls == guide.pairs
    assert 0 < guide.pairs <= 614_400
    assert loss.counters.share_saved >= 0.95
    if alike:
        assert guide.pairs == 3 * PRESETS[preset].max_candidates * ROWS


def test_the_full_loss_scores_every_pair_of_different_texts() -> None:
    guide = ConstantGuide()
    loss = RerankerCachedGISTEmbedLoss(lookup(vectors(alike=False)), guide, mini_batch_size=256)
    loss(features(COLUMNS)).backward()
    assert loss.counters.pairs == ALL
    assert guide.pairs == ALL - 2 * ROWS
    assert max(loss.model[0].rows) == 256
