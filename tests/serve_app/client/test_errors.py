"""Failed requests and invalid responses, and the errors they raise."""

from __future__ import annotations

import httpx
import pytest

from serve_app.client import BadAnswer, Refused, Reranker
from serve_app.errors import InvalidRequest, RerankError, Unauthorized, UnknownModel
from tests.serve_app.client.scripted_servers import OK, ok, scripted


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (httpx.Response(401, json={"message": "no key", "id": "1"}), Unauthorized, "no key"),
        (httpx.Response(422, json={"detail": "bad top_n"}), InvalidRequest, "bad top_n"),
        (httpx.Response(422, json={"detail": [{"msg": "x"}]}), InvalidRequest, '"msg": "x"'),
        (httpx.Response(402, content=b"pay"), Refused, "402: pay"),
        (httpx.Response(413, json={"error": "too many", "error_type": "V"}), RerankError, "too m"),
        (ok(results=[]), BadAnswer, "0 results instead of 1"),
        (ok(results=OK["results"] * 2), BadAnswer, "twice"),
        (ok(results=[{"index": 1, "score": 0.1}]), BadAnswer, "index 1; expected 0 to 0"),
        (ok(results=[{"index": 0, "score": None}]), BadAnswer, "results.0"),
        (ok(results=[{"index": True, "score": 1}]), BadAnswer, "results.0.index"),
        (ok(results=[{"index": 0, "score": "1"}]), BadAnswer, "results.0"),
        (httpx.Response(200, content=b'{"results":[{"index":0,"score":NaN}]}'), BadAnswer, "score"),
        (httpx.Response(200, content=b"<html>"), BadAnswer, "<html>"),
        (httpx.Response(200, json={"detail": "no"}), BadAnswer, "results"),
    ],
)
async def test_permanent_failures_are_raised_without_a_retry(
    answer: httpx.Response, kind: type[RerankError], message: str
) -> None:
    client, requests = scripted(answer)
    with pytest.raises(kind) as raised:
        await client.score("q", "d")
    assert message in str(raised.value)
    assert "test" in str(raised.value)
    assert len(requests) == 1


def test_service_errors_are_raised_as_their_own_classes(reranker: Reranker) -> None:
    with pytest.raises(UnknownModel, match="none-such"):
        reranker.rerank("q", ["d"], model="none-such")
    with pytest.raises(InvalidRequest, match="query") as raised:
        reranker.rerank(" ", ["d"])
    assert (raised.value.param, raised.value.status) == ("query", 400)
