"""Cache keys differ whenever the score may differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.images import ImageDocument
from models.types import ScoreOptions
from serve_app.service.cache import PairKeys
from tests.serve_app.fakes import INFO


@pytest.mark.parametrize(
    "change",
    [
        {"name": "x"},
        {"revision": "2"},
        {"max_length": 65},
        {"dtype": "bfloat16"},
        {"template": "qwen3"},
        {"detail": "layer 8"},
        {"instruction": "find"},
        {"max_tokens_per_doc": 9},
        {"long_document": "max_passage"},
    ],
)
def test_a_key_depends_on_the_model(change: dict[str, str]) -> None:
    assert PairKeys(INFO, "q").of("d") != PairKeys(replace(INFO, **change), "q").of("d")  # type: ignore[arg-type]


def test_pairs_that_concatenate_alike_have_different_keys() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    assert len({PairKeys(INFO, q).of(d) for q, d in pairs}) == 4
    keys = PairKeys(INFO, "q")
    assert keys.of("d") == keys.of("d")


@pytest.mark.parametrize(
    "asked",
    [{"instruction": "find"}, {"max_tokens_per_doc": 9}, {"long_document": "max_passage"}],
)
def test_a_key_depends_on_the_request_options(asked: dict[str, Any]) -> None:
    key = PairKeys(INFO, "q", ScoreOptions(**asked)).of("d")
    assert key != PairKeys(INFO, "q").of("d")
    # Asking for the model's own setting gives the same key.
    assert key == PairKeys(replace(INFO, **asked), "q").of("d")


def test_a_listwise_key_depends_on_all_documents_and_their_order() -> None:
    def keys(*documents: str) -> list[bytes]:
        return PairKeys(INFO, "q").all(documents)

    assert keys("a", "b") == keys("a", "b")
    assert len({*keys("a", "a"), *keys("a", "b"), *keys("b", "a"), *keys("ab")}) == 7


def test_a_text_never_has_the_key_of_an_image() -> None:
    keys = PairKeys(INFO, "q")
    image = ImageDocument("data:image/png;base64,AAAA")
    texts = {keys.of(text) for text in (image.identity, f"I{image.identity}", image.data_uri)}
    assert keys.of(image) not in texts
