"""Calls to a chat model: rejected fields, unreadable answers and limits."""

from __future__ import annotations

from typing import Any

import pytest

from models.registry import load_remote
from models.remote.errors import RemoteAnswerError, RemoteRefused, RemoteUnauthorized
from tests.models.llm import fake_chat as chat
from tests.models.llm.judges import spec_of
from tests.models.remote import fake_provider as fake
from tests.models.remote.fake_provider import as_json


async def test_a_field_that_the_server_rejects_is_not_sent_again() -> None:
    def answer(body: Any) -> Any:
        if "response_format" in body:
            return {"error": {"message": "unknown field"}}
        return chat.completion(f"Score: {round(chat.values(body)[0] * 10)}/10")

    with fake.serving(answer) as server:
        scorer = load_remote(spec_of(server.url, parallel_calls=1), {})
        server.replies = [as_json({"error": {"message": "response_format?"}}, 400)]
        assert (await scorer.score("q", ["0.9 b"]))[0].logit == 0.9
        assert (await scorer.score("q", ["0.2 b"]))[0].logit == 0.2
        assert [("response_format" in a.body) for a in server.received] == [True, False, False]
        assert scorer.counts["fields_refused"] == 1
        strict = load_remote(spec_of(server.url, structured="json_schema"), {})
        server.replies = [as_json({"error": {"message": "response_format?"}}, 400)]
        with pytest.raises(RemoteRefused):
            await strict.score("q", ["0.9 b"])


async def test_an_unreadable_rating_is_requested_once_more_then_an_error() -> None:
    with fake.serving(chat.rating) as server:
        scorer = load_remote(spec_of(server.url), {})
        server.replies = [as_json(chat.completion("I'd rather not."))]
        (score,) = await scorer.score("q", ["0.9 b"])
        assert (score.logit, score.tokens, scorer.counts["unreadable"]) == (0.9, 50, 1)
        for bad in (
            chat.completion("well"),
            chat.completion('{"score": 11}'),
            chat.completion('{"score": true}'),
        ):
            server.replies = [as_json(bad)] * 2
            with pytest.raises(RemoteAnswerError, match="has no score"):
                await scorer.score("q", ["0.9 b"])
        for bad in (chat.completion(None), {"choices": []}, [], {"error": {"message": "sold out"}}):
            server.replies = [as_json(bad)]
            with pytest.raises(RemoteAnswerError, match="no text"):
                await scorer.score("q", ["0.9 b"])
        server.replies = [as_json({"error": {"message": "bad key"}}, 401)]
        with pytest.raises(RemoteUnauthorized):
            await scorer.score("q", ["0.9 b"])


async def test_concurrent_calls_and_calls_per_request_are_limited() -> None:
    with fake.serving(chat.rating, delay_s=0.02) as server:
        scorer = load_remote(spec_of(server.url, parallel_calls=3, max_calls=20), {})
        await scorer.score("q", ["0.5 x"] * 20)
        assert server.max_concurrent == 3
        with pytest.raises(RemoteRefused, match="maximum per request is 20"):
            await scorer.score("q", ["0.5 x"] * 21)
