"""Mixedbread's format."""

from __future__ import annotations

import json

from serve_app import errors
from serve_app.api.dialects.mixedbread import MIXEDBREAD
from tests.serve_app.api.dialects.fakes import asked


def test_mixedbread() -> None:
    body = {"query": "q", "input": ["a", {"t": "b"}], "rank_fields": ["t"], "return_input": True}
    answer = asked(MIXEDBREAD, {**body, "top_k": 2})
    assert [entry["input"] for entry in answer["data"]] == ["a", {"t": "b"}]
    assert {entry["object"] for entry in answer["data"]} == {"rank_result"}
    assert (answer["top_k"], answer["return_input"], answer["object"]) == (2, True, "list")
    assert "input" not in asked(MIXEDBREAD, {"query": "q", "input": ["a"]})["data"][0]
    assert json.loads(MIXEDBREAD.error(errors.Overloaded("x"), "i"))["detail"] == "x"
