"""Unusual batches and guides, which a loss must handle or reject with a clear error."""

from __future__ import annotations

import pytest
import torch

from tests.models.training.conftest import ANCHORS, PAIRS
from tests.models.training.stubs import (
    ConstantGuide,
    WordGuide,
    features,
    make_loss,
    reference_loss,
)


@pytest.mark.parametrize("optimized", [False, True])
def test_a_batch_of_one_pair_has_no_loss_and_no_guide_calls(optimized: bool) -> None:
    guide = WordGuide()
    loss, _ = make_loss([["a b"], ["a c"]], guide, optimized=optimized)
    value = loss(features([["a b"], ["a c"]]))
    value.backward()
    assert value.item() == 0
    assert guide.asked == []
    assert not loss.model[0].table.weight.grad.any()


def test_a_batch_of_one_pair_with_a_negative() -> None:
    columns = [["a b"], ["a b c"], ["d"]]
    guide = WordGuide()
    loss, vectors = make_loss(columns, guide)
    value = loss(features(columns))
    expected = reference_loss(columns, vectors.split(1), WordGuide(), temperature=0.1)
    torch.testing.assert_close(value.detach(), expected)
    assert sorted(guide.asked) == [("a b", "a b c"), ("a b", "d")]


@pytest.mark.parametrize("optimized", [False, True])
@pytest.mark.parametrize(
    "columns",
    [
        [["q", "q", "r"], ["a", "b", "c"]],
        [["q", "r", "s"], ["a", "a", "c"]],
        [["q", "r"], ["a", "b"], ["b", "a"]],
        [["q", "r", "s"], ["a", "q", "c"]],
        [["same"] * 4, ["same"] * 4],
    ],
    ids=["anchors", "positives", "negatives", "crossed", "all"],
)
def test_related_texts_are_never_negatives(columns: list[list[str]], optimized: bool) -> None:
    everything = {"similarity_threshold": -1, "hybrid_threshold": -1, "min_top_k": 9}
    guide = WordGuide()
    # The constant guide excludes nothing, so only the relation between texts matters.
    loss, vectors = make_loss(
        columns, ConstantGuide(), optimized=optimized, **(everything if optimized else {})
    )
    value = loss(features(columns))
    value.backward()
    rows = len(columns[0])
    expected = reference_loss(columns, vectors.split(rows), ConstantGuide(), temperature=0.1)
    torch.testing.assert_close(value.detach(), expected)
    asking, _ = make_loss(columns, guide, optimized=optimized, **(everything if optimized else {}))
    asking(features(columns))
    pairs = set(zip(columns[0], columns[1], strict=True))
    shared = {(a, b) for a, p in pairs for b, q in pairs if (a == b or p == q) for b in (b, q)}
    assert not {pair for pair in guide.asked if pair in shared} - pairs


def test_missing_columns_and_columns_without_text_are_rejected() -> None:
    loss, _ = make_loss(PAIRS, WordGuide())
    with pytest.raises(ValueError, match="got 1 column"):
        loss(features([ANCHORS]))
    with pytest.raises(ValueError, match="needs text columns"):
        loss([{"pixel_values": torch.zeros(1)}, {"pixel_values": torch.zeros(1)}])
