"""Voyage's format."""

from __future__ import annotations

import json

from serve_app import errors
from serve_app.api.dialects.voyage import VOYAGE
from tests.serve_app.api.dialects.fakes import LIMITS, asked


def test_voyage() -> None:
    body = {"query": "q", "documents": ["a", "b"], "top_k": 1, "return_documents": True}
    assert asked(VOYAGE, body) == {
        "object": "list",
        "data": [{"index": 0, "relevance_score": 0.9, "document": "a"}],
        "model": "m",
        "usage": {"total_tokens": 7},
    }
    assert "index 0" in asked(VOYAGE, body, truncated=(0,))["warnings"][0]
    assert not VOYAGE.parse({**body, "truncation": False}, LIMITS).truncate
    too_long = errors.DocumentTooLong("long")
    assert VOYAGE.status(too_long) == 400
    assert VOYAGE.status(errors.Overloaded("full")) == 429
    assert json.loads(VOYAGE.error(too_long, "i"))["detail"] == "long"
