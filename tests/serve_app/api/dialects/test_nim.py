"""NVIDIA NIM's format."""

from __future__ import annotations

import json

import pytest

from serve_app import errors
from serve_app.api.dialects.nim import NIM
from tests.serve_app.api.dialects.fakes import LIMITS, asked


def test_nim() -> None:
    body = {"query": {"text": "q"}, "passages": [{"text": "a"}, {"text": "b"}], "truncate": "END"}
    answer = asked(NIM, {**body, "top_n": 1})
    assert answer["rankings"] == [{"index": 0, "logit": 2.5}]
    assert NIM.parse(body, LIMITS).truncate
    assert not NIM.parse({**body, "truncate": "NONE"}, LIMITS).truncate
    with pytest.raises(errors.InvalidRequest, match="truncate"):
        NIM.parse({**body, "truncate": "MIDDLE"}, LIMITS)
    with pytest.raises(errors.BadRequest) as caught:
        NIM.parse({"query": {}, "passages": ["a"]}, LIMITS)
    assert NIM.status(caught.value) == 422
    assert NIM.status(errors.DocumentTooLong("x")) == 400
    assert json.loads(NIM.error(errors.UnknownModel("x"), "i"))["detail"] == "x"
