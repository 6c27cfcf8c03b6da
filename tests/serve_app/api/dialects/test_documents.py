"""Parsing documents."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from serve_app import errors
from serve_app.api.dialects import Dialect
from serve_app.api.dialects.cohere import V1
from serve_app.errors import InvalidRequest
from tests.serve_app.api.dialects.fakes import LIMITS, body, both


@both
def test_deeply_nested_documents_are_rejected(dialect: Dialect) -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        dialect.parse(body(documents=[{"text": "a", "deep": deep}]), LIMITS)


@pytest.mark.parametrize("depth", [99, 100])
def test_documents_may_be_nested_a_hundred_levels_deep(depth: int) -> None:
    inner: Any = {}
    for _ in range(depth - 1):
        inner = [inner]
    sent = body(documents=[{"text": "a", "b": 1, "deep": inner}])
    with nullcontext() if depth < 100 else pytest.raises(InvalidRequest, match="nested"):
        V1.parse(sent, LIMITS)


@pytest.mark.parametrize(
    ("image", "ok"),
    [
        ("A" * 16, True),
        ("A" * 15, False),
        ("A" * 16 + "==", True),
        ("A" * 16 + "===", False),
        ("A" * 16 + "=A", False),
        ("A" * 17 + "!", False),
        ("é" * 16, False),
        ("", False),
        ("data:image/png;base64,", True),
        (f"data:image/{'a' * 300};base64,", False),
    ],
)
def test_images_are_data_uris_or_base64(image: str, ok: bool) -> None:
    with nullcontext() if ok else pytest.raises(InvalidRequest, match="image"):
        V1.parse(body(documents=[{"image": image}]), LIMITS)


def test_messages_quote_at_most_the_start_of_long_names() -> None:
    with pytest.raises(InvalidRequest) as caught:
        V1.parse(body(documents=[{}], rank_fields=["x" * 1_000_000]), LIMITS)
    assert len(caught.value.message) == 2000
    assert caught.value.message.startswith("documents[0] has none of the rank_fields xxx")
    field = {"rerank": "a", "y" * 1_000_000: 1}
    with pytest.raises(InvalidRequest) as caught:
        V1.parse(body(pipeline=[field]), LIMITS)
    assert len(caught.value.message) == 2000
    assert len(caught.value.param or "") == 256


def test_rank_fields_joins_the_named_fields_in_order() -> None:
    documents = [{"a": "one", "b": 2, "c": None}, {"b": "two"}, "plain"]
    body = {"query": "q", "documents": documents, "rank_fields": ["c", "b", "a", "b"]}
    request = V1.parse(body, LIMITS)
    assert request.documents == ("2\none", "two", "plain")
    assert request.originals == tuple(documents)
    with pytest.raises(errors.InvalidRequest, match="rank_fields"):
        V1.parse({**body, "rank_fields": ["x"]}, LIMITS)
    for wrong in ("a", [1], [""], ["a"] * 101):
        with pytest.raises(errors.InvalidRequest, match="rank_fields"):
            V1.parse({**body, "rank_fields": wrong}, LIMITS)
