"""Parsing documents."""

from __future__ import annotations

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
