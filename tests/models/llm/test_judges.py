"""LLM judges: the requests they send, their scores, and how they handle bad answers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from models.llm.listwise import windows
from models.registry import load_remote
from models.remote.errors import RemoteAnswerError, RemoteRefused, RemoteUnauthorized
from models.remote.types import RemoteSpec
from models.types import ScoreOptions
from tests.models.llm import fake_chat as chat
from tests.models.remote import fake_provider as fake
from tests.models.remote.fake_provider import as_json

DOCUMENTS = ["0.2 a", "0.9 b", "0.5 c", "0.0 d"]
VALUES = [0.2, 0.9, 0.5, 0.0]
EXPLAIN = ScoreOptions(explain=True)


def spec_of(url: str, provider: str = "local-chat", **more: Any) -> RemoteSpec:
    return RemoteSpec("judge", provider, "a-model", base_url=url, **more)


@pytest.mark.parametrize("provider", ["openai-chat", "local-chat", "lmstudio"])
async def test_ratings_from_0_to_10_become_scores(provider: str) -> None:
    with fake.serving(chat.rating) as server:
        scorer = load_remote(spec_of(server.url, provider), {"OPENAI_API_KEY": "sk-1"})
        scores = await scorer.score("a query", DOCUMENTS)
    assert [s.logit for s in scores] == VALUES
    assert [s.tokens for s in scores] == [25] * 4
    assert scorer.counts["tokens"] == 100
    assert {request.path for request in server.received} == {"/v1/chat/completions"}
    key = "Bearer sk-1" if provider == "openai-chat" else None
    assert {request.headers.get("authorization") for request in server.received} == {key}
    body = server.received[0].body
    assert (body["model"], body["temperature"]) == ("a-model", 0)
    assert "a query" in body["messages"][1]["content"]
    assert not scorer.info.listwise


async def test_yes_or_no_is_scored_with_and_without_log_probabilities() -> None:
    with fake.serving(chat.yes_no) as server:
        scorer = load_remote(spec_of(server.url, judge="yes_no"), {})
        scores = await scorer.score("q", DOCUMENTS)
    assert [s.logit for s in scores] == pytest.approx(VALUES, abs=1e-6)
    with fake.serving(
        lambda body: chat.completion("Yes." if chat.values(body)[0] > 0.4 else "NO")
    ) as s:
        scorer = load_remote(spec_of(s.url, judge="yes_no"), {})
        assert [x.logit for x in await scorer.score("q", DOCUMENTS)] == [0, 1, 1, 0]


@pytest.mark.parametrize("judge", ["score", "yes_no"])
async def test_a_reason_is_returned_on_request(judge: Any) -> None:
    def answer(body: Any) -> Any:
        if judge == "score":
            return chat.rating(body)
        assert "logprobs" not in body
        return chat.completion('```json\n{"reason": "It  fits.", "answer": "yes"}\n```')

    with fake.serving(answer) as server:
        scorer = load_remote(spec_of(server.url, judge=judge), {})
        (score,) = await scorer.score("q", ["0.9 b"], EXPLAIN)
    assert scorer.info.explains
    assert (score.explanation, score.logit) in [("It has 0.9.", 0.9), ("It fits.", 1.0)]


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


async def test_passages_are_truncated_and_the_instruction_is_sent() -> None:
    with fake.serving(chat.rating) as server:
        scorer = load_remote(spec_of(server.url, instruction="Cats count."), {})
        options = ScoreOptions(max_tokens_per_doc=2, instruction="Dogs count.")
        (score,) = await scorer.score("q", ["0.5 and so on"], options)
    assert score.truncated
    assert chat.passages(server.received[0].body) == ["0.5 an"]
    assert "Dogs count." in server.received[0].body["messages"][0]["content"]


def test_windows_slide_from_the_end_to_the_start() -> None:
    def pairs(*given: int) -> list[tuple[int, int]]:
        return [(w.start, w.stop) for w in windows(*given)]

    assert pairs(5, 20, 10) == [(0, 5)]
    assert pairs(20, 20, 10) == [(0, 20)]
    assert pairs(45, 20, 10) == [(25, 45), (15, 35), (5, 25), (0, 15)]
    assert pairs(4, 2, 2) == [(2, 4), (0, 2)]


async def test_listwise_moves_the_best_documents_to_the_top_across_windows() -> None:
    with fake.serving(chat.ranking) as server:
        scorer = load_remote(spec_of(server.url, judge="listwise"), {})
        scores = await scorer.score("q", DOCUMENTS)
        assert [s.logit for s in scores] == [0.5, 1.0, 0.75, 0.25]
        assert sum(s.tokens for s in scores) == 25
        assert (len(server.received), scorer.info.listwise) == (1, True)

        values = [i / 100 for i in range(60)]
        random.Random(1).shuffle(values)
        scores = await scorer.score("q", [f"{v} text" for v in values])
        by_score = sorted(range(60), key=lambda i: -scores[i].logit)
        # Windows of 20 that overlap by 10 move the best ten documents to the top.
        assert [values[i] for i in by_score[:10]] == [i / 100 for i in range(59, 49, -1)]
        assert len({s.logit for s in scores}) == 60
        assert len(server.received) == 1 + 5
        assert (await scorer.score("q", ["0.1 alone"]))[0].logit == 1.0
        assert len(server.received) == 1 + 5


@pytest.mark.parametrize(
    ("text", "expected", "counted"),
    [
        ("[2] > [3] > [1] > [4]", [2, 3, 1, 4], {}),
        ('{"ranking": [4, 3]}', [4, 3, 1, 2], {"ranking_missing": 2}),
        ("[2] > [2] > [3] > [1] > [4]", [2, 3, 1, 4], {"ranking_repeated": 1}),
        ("Of 4: [3] > [9] > [1]", [3, 1, 2, 4], {"ranking_unknown": 1, "ranking_missing": 2}),
        ("<think>[1] > [2]</think>2, 1, 4, 3", [2, 1, 4, 3], {}),
        ('{"ranking": ["[4]", "1", 2, 3', [4, 1, 2, 3], {"ranking_missing": 3}),
    ],
)
async def test_incomplete_rankings_are_repaired_and_counted(
    text: str, expected: list[int], counted: dict[str, int]
) -> None:
    with fake.serving(lambda body: chat.completion(text)) as server:
        scorer = load_remote(spec_of(server.url, judge="listwise"), {})
        scores = await scorer.score("q", DOCUMENTS)
    order = sorted(range(4), key=lambda i: -scores[i].logit)
    assert [i + 1 for i in order] == expected
    found = {k: v for k, v in scorer.counts.items() if k.startswith("ranking_")}
    assert found == counted
    assert scorer.counts.get("rankings_repaired", 0) == bool(counted)


async def test_an_empty_ranking_is_requested_once_more_then_an_error() -> None:
    with fake.serving(chat.ranking) as server:
        scorer = load_remote(spec_of(server.url, judge="listwise"), {})
        server.replies = [as_json(chat.completion("They are all fine."))]
        assert (await scorer.score("q", DOCUMENTS))[1].logit == 1
        server.replies = [as_json(chat.completion(json.dumps({"ranking": [77]})))] * 2
        with pytest.raises(RemoteAnswerError, match="ranks no document"):
            await scorer.score("q", DOCUMENTS)
        assert scorer.counts["unreadable"] == 3
        assert not scorer.info.explains


async def test_listwise_calls_per_request_are_limited() -> None:
    spec = RemoteSpec("judge", "lmstudio", "m", judge="listwise", max_calls=5)
    with pytest.raises(RemoteRefused, match="need 9 calls"):
        await load_remote(spec, {}).score("q", ["a"] * 100)
