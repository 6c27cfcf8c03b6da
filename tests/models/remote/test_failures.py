"""Failures of each provider: a clear error, and never a made-up score."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from models.registry import load_remote
from models.remote import transport
from models.remote.errors import (
    RemoteAnswerError,
    RemoteConfigError,
    RemoteError,
    RemoteNotFound,
    RemoteRateLimited,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnauthorized,
    RemoteUnavailable,
)
from models.remote.providers import PROVIDERS
from models.remote.types import RemoteSpec
from tests.models.remote import fake_provider as fake
from tests.models.remote.fake_provider import Reply, as_json
from tests.models.remote.test_providers import CASES, DOCUMENTS, ENDPOINTS, KEY, spec_of

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


async def test_transient_failures_are_retried_and_retry_after_is_respected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    with fake.serving(fake.cohere) as provider:
        scorer = load_remote(spec_of("cohere", provider.url, retries=3), {"A_KEY": KEY})
        monkeypatch.setattr(scorer._connection.transport, "_sleep", sleep)  # type: ignore[attr-defined]
        limited = as_json({"message": "slow"}, 429, retry_after="2")
        provider.replies = [Reply(500), limited, Reply(503)]
        assert len(await scorer.score("q", DOCUMENTS)) == 5
        assert waited[0] < transport.BACKOFF_S
        assert 2 <= waited[1] <= 2 + 2 * transport.BACKOFF_S
        assert waited[2] < 4 * transport.BACKOFF_S
        wanted = {"calls": 4, "retries": 3, "failures": 2, "rate_limited": 1}
        assert {k: scorer.counts[k] for k in wanted} == wanted

        provider.received.clear()
        provider.replies = [as_json({"message": "no"}, 422)]
        with pytest.raises(RemoteRefused):
            await scorer.score("q", DOCUMENTS)
        assert len(provider.received) == 1, "a rejected request is not retried"

        # Not retried: Retry-After is beyond the deadline.
        provider.received.clear()
        provider.replies = [as_json({"message": "slow"}, 429, retry_after="3600")]
        with pytest.raises(RemoteRateLimited) as caught:
            await scorer.score("q", DOCUMENTS)
        assert (caught.value.retry_after_s, len(provider.received)) == (3600, 1)


async def test_the_deadline_covers_a_slow_answer_and_all_retries() -> None:
    with fake.serving(fake.cohere, delay_s=0.3) as provider:
        scorer = load_remote(spec_of("cohere", provider.url, timeout_s=0.1), {"A_KEY": KEY})
        with pytest.raises(RemoteTimeout, match="timed out"):
            await scorer.score("q", DOCUMENTS)
    with fake.serving(fake.cohere) as provider:
        provider.always = Reply(500, delay_s=0.08)
        spec = spec_of("cohere", provider.url, timeout_s=0.2, retries=50)
        with pytest.raises((RemoteTimeout, RemoteUnavailable)):
            await load_remote(spec, {"A_KEY": KEY}).score("q", DOCUMENTS)
        assert len(provider.received) < 5


async def test_calls_are_paused_after_five_failures_in_a_row() -> None:
    with fake.serving(fake.cohere) as provider:
        spec = spec_of("cohere", provider.url, retries=0)
    scorer = load_remote(spec, {"A_KEY": KEY})
    for _ in range(5):
        with pytest.raises(RemoteUnavailable, match="connection"):
            await scorer.score("q", ["0.5"])
    with pytest.raises(RemoteUnavailable, match="5 times in a row") as caught:
        await scorer.score("q", ["0.5"])
    assert 0 < (caught.value.retry_after_s or 0) <= 10
    assert scorer.counts["calls"] == 5
    assert scorer.counts["breaker_opened"] == 1


async def test_no_error_message_contains_the_key(tmp_path: Any) -> None:
    with fake.serving(fake.cohere) as provider:
        provider.always = as_json({"message": f"Incorrect API key provided: {KEY}"}, 401)
        scorer = load_remote(spec_of("cohere", provider.url), {"A_KEY": KEY})
        with pytest.raises(RemoteUnauthorized) as caught:
            await scorer.score("q", DOCUMENTS)
        assert KEY not in str(caught.value)
        assert "provided: ***" in str(caught.value)
        provider.always = as_json({"message": f"{KEY} is unknown"})
        with pytest.raises(RemoteAnswerError) as answered:
            await scorer.score("q", DOCUMENTS)
        assert KEY not in str(answered.value)


async def test_a_changed_key_file_is_read_again(tmp_path: Any) -> None:
    file = tmp_path / "key"
    file.write_text("first\n")
    with fake.serving(fake.cohere) as provider:
        spec = RemoteSpec("m", "cohere", "x", base_url=provider.url, api_key_file=str(file))
        scorer = load_remote(spec, {})
        await scorer.score("q", DOCUMENTS)
        file.write_text("the second\n")
        await scorer.score("q", DOCUMENTS)
    sent = [request.headers["authorization"] for request in provider.received]
    assert sent == ["Bearer first", "Bearer the second"]
    file.unlink()
    with pytest.raises(RemoteUnauthorized, match="cannot read the key file"):
        load_remote(spec, {})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RemoteSpec("m", "nobody", "x"), "'nobody' is not a provider"),
        (RemoteSpec("m", "cohere"), "needs `model`"),
        (RemoteSpec("m", "vllm", "x"), "needs `base_url`"),
        (RemoteSpec("m", "vllm", "x", base_url="host:1"), "http or https"),
        (RemoteSpec("m", "vllm", "x", base_url="http://me:pw@host"), "user name"),
        (RemoteSpec("m", "vllm", "x", base_url="http://host?key=1"), "query string"),
        (RemoteSpec("m", "google", "x", api_key_env="A_KEY"), "needs `project`"),
        (RemoteSpec("m", "bedrock", "x", api_key_env="A_KEY"), "needs `region`"),
    ],
)
def test_invalid_settings_are_rejected_on_loading(spec: RemoteSpec, message: str) -> None:
    with pytest.raises(RemoteConfigError, match=message):
        load_remote(spec, {"A_KEY": "identity:secret"})


def test_a_missing_or_malformed_key_is_rejected_on_loading() -> None:
    with pytest.raises(RemoteUnauthorized, match="COHERE_API_KEY"):
        load_remote(RemoteSpec("m", "cohere", "x"), {})
    with pytest.raises(RemoteUnauthorized, match="not allowed in a header") as caught:
        load_remote(RemoteSpec("m", "cohere", "x"), {"COHERE_API_KEY": "sécret"})
    assert "cret" not in json.dumps(str(caught.value))
