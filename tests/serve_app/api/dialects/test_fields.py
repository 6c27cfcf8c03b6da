"""Fields that the dialects have in common."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.api.dialects import NATIVE, Dialect
from serve_app.errors import BadRequest, InvalidRequest
from tests.serve_app.api.dialects.fakes import LIMITS, body, both


@both
@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"query": None}, 400, "query"),
        ({"query": " \n"}, 400, "query"),
        ({"query": 1}, 422, "query"),
        ({"query": "q" * 21}, 422, "query"),
        ({"documents": None}, 400, "documents"),
        ({"documents": []}, 400, "documents"),
        ({"documents": {}}, 422, "documents"),
        ({"documents": "abc"}, 422, "documents"),
        ({"documents": ["a"] * 6}, 422, "documents"),
        ({"documents": ["a", None]}, 422, "documents[1]"),
        ({"documents": ["a", 1]}, 422, "documents[1]"),
        ({"documents": [["a"]]}, 422, "documents[0]"),
        ({"documents": [{"title": "a"}]}, 422, "documents[0].text"),
        ({"documents": [{"text": None}]}, 422, "documents[0].text"),
        ({"top_n": 0}, 422, "top_n"),
        ({"top_n": -1}, 422, "top_n"),
        ({"top_n": True}, 422, "top_n"),
        ({"top_n": "2"}, 422, "top_n"),
        ({"top_n": 1.5}, 422, "top_n"),
        ({"model": 1}, 422, "model"),
        ({"model": "m" * 257}, 422, "model"),
        ({"return_documents": "yes"}, 422, "return_documents"),
        ({"return_documents": 1}, 422, "return_documents"),
    ],
)
def test_invalid_fields_are_rejected(
    dialect: Dialect, change: dict[str, Any], status: int, param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        dialect.parse(body(**change), LIMITS)
    assert (caught.value.status, caught.value.param) == (status, param)
    assert isinstance(caught.value, BadRequest) == (status == 400)


@both
@pytest.mark.parametrize(
    ("top_n", "expected"), [(None, None), (1, 1), (3, 3), (4, 3), (2.0, 2), (1e30, 3)]
)
def test_top_n(dialect: Dialect, top_n: Any, expected: int | None) -> None:
    assert dialect.parse(body(top_n=top_n), LIMITS).top_n == expected


@both
def test_booleans_as_strings(dialect: Dialect) -> None:
    assert dialect.parse(body(return_documents="True"), LIMITS).return_documents
    assert not dialect.parse(body(return_documents="false"), LIMITS).return_documents
    assert dialect.parse(body(), LIMITS).return_documents == (dialect is NATIVE)
