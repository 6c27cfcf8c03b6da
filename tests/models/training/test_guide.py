"""Asking the guide: each pair once, and errors for unusable scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from models.training import GuideError, RerankerCachedGISTEmbedLoss
from tests.models.training.conftest import ANCHORS, PAIRS, POSITIVES
from tests.models.training.stubs import WordGuide, features, lookup, make_loss


def test_the_guide_scores_each_pair_once() -> None:
    columns = [[*ANCHORS, ANCHORS[0]], [*POSITIVES, "what fell today"]]
    guide = WordGuide()
    loss = RerankerCachedGISTEmbedLoss(lookup(torch.randn(10, 4)), guide, mini_batch_size=2)
    loss(features(columns)).backward()
    assert len(guide.asked) == len(set(guide.asked)) == loss.counters.calls
    assert loss.counters.pairs == 3 * 5 * 5
    assert guide.calls == 1


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
    loss, _ = make_loss(PAIRS, BadGuide(answer), contrast_anchors=True)
    # Each anchor is scored with its positive, three other positives and three other anchors.
    message = message.replace("the 4 documents", "the 7 documents")
    with pytest.raises(GuideError, match=message):
        loss(features(PAIRS))


def test_long_texts_are_shortened_in_errors() -> None:
    columns = [["long " * 100, "b"], POSITIVES[:2]]
    loss, _ = make_loss(columns, BadGuide(lambda ds: [[float("nan")] * len(d) for d in ds]))
    with pytest.raises(GuideError) as error:
        loss(features(columns))
    assert len(str(error.value)) < 400
