"""Unusual batches and guides, which a loss must handle or reject with a clear error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from models.training import (
    GuideError,
    OptimizedRerankerCachedGISTEmbedLoss,
    RerankerCachedGISTEmbedLoss,
)
from tests.models.training.conftest import ANCHORS, NEGATIVES, PAIRS, POSITIVES
from tests.models.training.stubs import ConstantGuide, WordGuide, features, lookup, reference_loss


def make(
    columns: Sequence[Sequence[str]], guide: Any, *, optimized: bool = False, **options: Any
) -> tuple[RerankerCachedGISTEmbedLoss, torch.Tensor]:
    torch.manual_seed(0)
    vectors = torch.randn(len(columns) * len(columns[0]), 8)
    kind = OptimizedRerankerCachedGISTEmbedLoss if optimized else RerankerCachedGISTEmbedLoss
    loss = kind(lookup(vectors), guide, temperature=0.1, mini_batch_size=3, **options)
    return loss, vectors


@pytest.mark.parametrize("optimized", [False, True])
def test_a_batch_of_one_pair_has_no_loss_and_no_guide_calls(optimized: bool) -> None:
    guide = WordGuide()
    loss, _ = make([["a b"], ["a c"]], guide, optimized=optimized)
    value = loss(features([["a b"], ["a c"]]))
    value.backward()
    assert value.item() == 0
    assert guide.asked == []
    assert not loss.model[0].table.weight.grad.any()


def test_a_batch_of_one_pair_with_a_negative() -> None:
    columns = [["a b"], ["a b c"], ["d"]]
    guide = WordGuide()
    loss, vectors = make(columns, guide)
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
    loss, vectors = make(
        columns, ConstantGuide(), optimized=optimized, **(everything if optimized else {})
    )
    value = loss(features(columns))
    value.backward()
    rows = len(columns[0])
    expected = reference_loss(columns, vectors.split(rows), ConstantGuide(), temperature=0.1)
    torch.testing.assert_close(value.detach(), expected)
    asking, _ = make(columns, guide, optimized=optimized, **(everything if optimized else {}))
    asking(features(columns))
    pairs = set(zip(columns[0], columns[1], strict=True))
    shared = {(a, b) for a, p in pairs for b, q in pairs if (a == b or p == q) for b in (b, q)}
    assert not {pair for pair in guide.asked if pair in shared} - pairs


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
    loss, _ = make(columns, guide, optimized=True, **options)
    value = loss(features(columns))
    value.backward()
    assert value.isfinite()
    assert value > 0
    if calls is not None:
        assert len(guide.asked) == calls == loss.counters.calls


def test_pairs_below_the_threshold_are_negatives_without_a_guide_call() -> None:
    """Nothing is excluded, so the result is the plain contrastive loss."""
    loss, vectors = make(PAIRS, WordGuide(), optimized=True, similarity_threshold=1.0, min_top_k=0)
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


class BadGuide:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def score(self, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Any:
        return self.answer(documents)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda ds: [[0.0] * len(d) for d in ds][1:], "returned 7 lists for 8 queries"),
        (lambda ds: [[0.0] * (len(d) - 1) for d in ds], "shape .*for the 4 documents"),
        (lambda ds: [[[0.0, 1.0]] * len(d) for d in ds], "expected one number per document"),
        (lambda ds: [[float("nan")] * len(d) for d in ds], "score is nan for query 'how do pandas"),
        (lambda ds: [[float("inf")] * len(d) for d in ds], "score is inf"),
        (lambda ds: [[1e60] * len(d) for d in ds], "score is inf"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_unusable_scores_are_an_error(answer: Any, message: str) -> None:
    loss, _ = make(PAIRS, BadGuide(answer), contrast_anchors=True)
    # Each anchor is scored with its positive, three other positives and three other anchors.
    message = message.replace("the 4 documents", "the 7 documents")
    with pytest.raises(GuideError, match=message):
        loss(features(PAIRS))


def test_missing_columns_and_columns_without_text_are_rejected() -> None:
    loss, _ = make(PAIRS, WordGuide())
    with pytest.raises(ValueError, match="got 1 column"):
        loss(features([ANCHORS]))
    with pytest.raises(ValueError, match="needs text columns"):
        loss([{"pixel_values": torch.zeros(1)}, {"pixel_values": torch.zeros(1)}])


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


def test_long_texts_are_shortened_in_errors() -> None:
    columns = [["long " * 100, "b"], POSITIVES[:2]]
    loss, _ = make(columns, BadGuide(lambda ds: [[float("nan")] * len(d) for d in ds]))
    with pytest.raises(GuideError) as error:
        loss(features(columns))
    assert len(str(error.value)) < 400
