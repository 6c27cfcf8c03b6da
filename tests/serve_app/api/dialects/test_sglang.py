"""SGLang's format."""

from __future__ import annotations

import json

from serve_app import errors
from serve_app.api.dialects.sglang import SGLANG
from tests.serve_app.api.dialects.fakes import LIMITS, asked


def test_sglang() -> None:
    body = {"query": "q", "documents": ["a", "b"], "instruct": "find", "top_n": 1}
    assert SGLANG.parse(body, LIMITS).options.instruction == "find"
    (answer,) = asked(SGLANG, body)
    assert (answer["score"], answer["document"], answer["index"]) == (0.9, "a", 0)
    assert answer["meta_info"]["prompt_tokens"] == 7
    assert SGLANG.status(errors.InvalidRequest("x")) == 400
    assert json.loads(SGLANG.error(errors.InvalidRequest("x"), "i"))["code"] == 400
