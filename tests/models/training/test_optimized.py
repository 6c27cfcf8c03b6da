"""Options of the optimized loss: their ranges, and what a model card and a checkpoint keep."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from models.training import OptimizedRerankerCachedGISTEmbedLoss
from tests.models.training.conftest import PAIRS
from tests.models.training.stubs import WordGuide, features, lookup


def test_counters_are_saved_and_options_are_in_the_model_card() -> None:
    model = lookup(torch.randn(8, 4))
    loss = OptimizedRerankerCachedGISTEmbedLoss(model, WordGuide(), "aggressive", max_candidates=9)
    loss(features(PAIRS)).backward()
    other = OptimizedRerankerCachedGISTEmbedLoss(model, WordGuide())
    other.load_state_dict(loss.state_dict())
    assert other.counters == loss.counters
    assert other.counters.batches == 1
    config = json.loads(json.dumps(loss.get_config_dict()))
    assert (config["preset"], config["max_candidates"], config["min_top_k"]) == ("aggressive", 9, 8)
    assert config["guide"] == "WordGuide"
    assert "2402.16829" in loss.citation


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "bold"},
        {"similarity_threshold": 2},
        {"top_k_ratio": -0.1},
        {"max_candidates": 0},
        {"min_top_k": 60},
        {"margin_strategy": "other"},
        {"temperature": 0},
        {"mini_batch_size": 0},
    ],
)
def test_options_out_of_range_are_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        OptimizedRerankerCachedGISTEmbedLoss(lookup(torch.randn(8, 4)), WordGuide(), **options)
