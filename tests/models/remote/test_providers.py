"""Every provider in the table, against a server that answers as its documentation describes."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from models.registry import load_remote
from models.remote.errors import (
    RemoteAnswerError,
    RemoteError,
    RemoteNotFound,
    RemoteRateLimited,
    RemoteRefused,
    RemoteUnauthorized,
    RemoteUnavailable,
)
from models.remote.providers import PROVIDERS
from models.types import relevance
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import CASES, DOCUMENTS, spec_of
from tests.models.remote.fake_provider import Reply, as_json

VALUES = [0.25, 0.75, 0.5, 0.125, 0.875]
ENDPOINTS = [name for name, row in PROVIDERS.items() if row.form != "chat"]


def test_every_provider_has_a_case() -> None:
    assert set(ENDPOINTS) == set(CASES)


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_requests_and_answers_follow_the_documentation(name: str) -> None:
    case, row = CASES[name], PROVIDERS[name]
    with fake.serving(case.answer) as provider:
        scorer = load_remote(spec_of(name, provider.url), {"A_KEY": case.key})
        scores = await scorer.score("a query", DOCUMENTS)
        await scorer.close()
    request = provider.received[-1]
    assert request.path == case.path
    if case.header:
        assert request.headers[case.header[0]] == case.header[1]
    assert request.headers["content-type"] == "application/json"
    for header, value in row.headers.items():
        assert request.headers[header] == value
    # The raw score is the provider's own, and relevance is within [0, 1].
    assert [s.logit for s in scores] == pytest.approx(VALUES)
    shown = [relevance(s.logit, scorer.info.activation) for s in scores]
    sigmoid = [1 / (1 + math.exp(-v)) for v in VALUES]
    assert shown == pytest.approx(sigmoid if row.scale == "logit" else VALUES)
    if case.tokens is not None:
        assert sum(s.tokens for s in scores) == case.tokens == scorer.counts["tokens"]
    assert all(s.tokens > 0 for s in scores)
    assert case.key not in repr(scorer.info)
    assert scorer.info.source == f"{name}:{case.model or 'default'}"


async def test_bedrock_requests_are_signed_and_all_pages_are_read() -> None:
    with fake.serving(fake.bedrock) as provider:
        scorer = load_remote(spec_of("bedrock", provider.url), {"A_KEY": "identity:secret:session"})
        await scorer.score("a query", DOCUMENTS)
    assert [a.body.get("nextToken") for a in provider.received] == [None, "2", "4"]
    for request in provider.received:
        signature = request.headers["authorization"]
        assert signature.startswith("AWS4-HMAC-SHA256 Credential=identity/")
        assert (
            "/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-" in signature
        )
        assert "secret" not in signature


STATUSES: list[tuple[Reply, type[RemoteError], str]] = [
    (as_json({"message": "invalid api token"}, 401), RemoteUnauthorized, "invalid api token"),
    (as_json({"detail": "no balance"}, 402), RemoteUnauthorized, "no balance"),
    (as_json({"error": {"message": "not yours"}}, 403), RemoteUnauthorized, "not yours"),
    (as_json({"detail": [{"msg": "no such model"}]}, 404), RemoteNotFound, "no such model"),
    (as_json({"error": "too long", "error_type": "Validation"}, 413), RemoteRefused, "too long"),
    (as_json({"code": "InvalidParameter", "message": "bad"}, 422), RemoteRefused, "422: bad"),
    (as_json({"message": "slow down"}, 429, retry_after="7"), RemoteRateLimited, "slow down"),
    (Reply(500, b"<html>oops</html>"), RemoteUnavailable, "returned 500$"),
    (Reply(302, b"", {"location": "/elsewhere"}), RemoteNotFound, "base_url"),
    (Reply(405, b""), RemoteNotFound, "returned 405"),
    (Reply(200, b"<html>sign in</html>", {"content_type": "text/html"}), RemoteAnswerError, "JSON"),
    (Reply(200, b'{"results": ['), RemoteAnswerError, "not JSON"),
    (as_json({"code": "X1", "message": "model is sold out"}), RemoteAnswerError, "sold out"),
    (as_json([]), RemoteAnswerError, "unusable response"),
    (as_json(None), RemoteAnswerError, "unusable response"),
    (Reply(503, b""), RemoteUnavailable, "returned 503"),
]


def _results(answer: Any) -> list[dict[str, Any]]:
    """The list of results, at any depth of the answer."""
    if isinstance(answer, list):
        return answer
    for value in answer.values():
        if isinstance(value, list):
            return value
    return _results(next(v for v in answer.values() if isinstance(v, dict)))


def _name(entry: dict[str, Any], *names: str) -> str:
    return next(name for name in names if name in entry)


def _index(entry: dict[str, Any]) -> str:
    return _name(entry, "index", "id")


def _score(entry: dict[str, Any]) -> str:
    return _name(entry, "relevance_score", "score", "logit", "relevanceScore", "embedding")


Change = Callable[[list[dict[str, Any]]], Any]
CHANGES: dict[str, Change] = {
    "one result missing": lambda r: r.pop(),
    "all results missing": lambda r: r.clear(),
    "a repeated index": lambda r: r[0].update({_index(r[0]): r[1][_index(r[1])]}),
    "one result too many": lambda r: r.append({**r[0], _index(r[0]): 6}),
    "an index out of range": lambda r: r[0].update({_index(r[0]): 77}),
    "a negative index": lambda r: r[0].update({_index(r[0]): -1}),
    "an index that is not an integer": lambda r: r[0].update({_index(r[0]): 0.5}),
    "an index that is a boolean": lambda r: r[0].update({_index(r[0]): True}),
    "no index": lambda r: r[0].pop(_index(r[0])),
    "no score": lambda r: r[0].pop(_score(r[0])),
    "a null score": lambda r: r[0].update({_score(r[0]): None}),
    "a string score": lambda r: r[0].update({_score(r[0]): "0.5"}),
    "a NaN score": lambda r: r[0].update({_score(r[0]): float("nan")}),
    "an infinite score": lambda r: r[0].update({_score(r[0]): float("inf")}),
    "a result that is not an object": lambda r: r.insert(0, "0.5"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_every_bad_answer_is_an_error(name: str) -> None:
    case = CASES[name]
    with fake.serving(case.answer) as provider:
        scorer = load_remote(spec_of(name, provider.url, retries=0), {"A_KEY": case.key})
        for reply, kind, message in STATUSES:
            provider.always = reply
            with pytest.raises(kind, match=message) as caught:
                await scorer.score("a query", DOCUMENTS)
            assert PROVIDERS[name].title in str(caught.value)
            assert type(caught.value) is kind
        provider.always = None
        for what, change in CHANGES.items():

            def changed(body: Any, change: Change = change) -> Any:
                answer = case.answer(body)
                # Bedrock's last page has a single result, too few for some of the changes.
                with suppress(IndexError):
                    change(_results(answer))
                return answer

            provider.answer = changed
            try:
                await scorer.score("a query", DOCUMENTS)
            except RemoteAnswerError:
                continue
            pytest.fail(f"{name} gave scores for an answer with {what}")
        provider.answer = case.answer
        assert len(await scorer.score("a query", DOCUMENTS)) == len(DOCUMENTS)
        await scorer.close()
