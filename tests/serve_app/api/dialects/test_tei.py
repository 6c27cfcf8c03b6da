"""Text Embeddings Inference's format."""

from __future__ import annotations

import json

import pytest

from serve_app import errors
from serve_app.api.dialects.tei import TEI
from tests.serve_app.api.dialects.fakes import LIMITS, asked


def test_tei_returns_a_bare_list() -> None:
    body = {"query": "q", "texts": ["a", "b"], "raw_scores": False, "truncate": True}
    assert asked(TEI, body) == [{"index": 0, "score": 0.9}, {"index": 1, "score": 0.9}]
    more = {**body, "raw_scores": True, "return_text": True, "top_n": 1}
    assert asked(TEI, more) == [{"index": 0, "score": 2.5, "text": "a"}]
    assert TEI.parse(body, LIMITS).truncate
    assert not TEI.parse({**body, "truncate": False}, LIMITS).truncate
    assert not TEI.parse({**body, "truncation_direction": "Left"}, LIMITS).truncate
    assert TEI.parse({**body, "truncation_direction": "Right"}, LIMITS).truncate


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (errors.BadRequest("x"), 400, "Empty"),
        (errors.InvalidRequest("x"), 422, "Validation"),
        (errors.TooManyDocuments("x"), 413, "Validation"),
        (errors.DocumentTooLong("x"), 413, "Validation"),
        (errors.BodyTooLarge("x"), 413, "Validation"),
        (errors.MalformedBody("x"), 400, "Validation"),
        (errors.UnsupportedEncoding("x"), 415, "Validation"),
        (errors.UnknownModel("x"), 404, "Validation"),
        (errors.Overloaded("x"), 429, "Overloaded"),
        (errors.QueueTimeout("x"), 429, "Overloaded"),
        (errors.ShuttingDown("x"), 503, "Unhealthy"),
        (errors.ModelUnavailable("x"), 503, "Unhealthy"),
        (errors.ScoringFailed("x"), 424, "Backend"),
        (errors.DeadlineExceeded("x"), 424, "Backend"),
        (errors.RerankError("x"), 500, "Backend"),
    ],
)
def test_tei_errors(error: errors.RerankError, status: int, kind: str) -> None:
    assert TEI.status(error) == status
    assert json.loads(TEI.error(error, "i")) == {"error": "x", "error_type": kind}
