"""Judges that score one document per call."""

from __future__ import annotations

from typing import Any

import pytest

from models.registry import load_remote
from models.types import ScoreOptions
from tests.models.llm import fake_chat as chat
from tests.models.llm.judges import DOCUMENTS, VALUES, spec_of
from tests.models.remote import fake_provider as fake

EXPLAIN = ScoreOptions(explain=True)


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


async def test_passages_are_truncated_and_the_instruction_is_sent() -> None:
    with fake.serving(chat.rating) as server:
        scorer = load_remote(spec_of(server.url, instruction="Cats count."), {})
        options = ScoreOptions(max_tokens_per_doc=2, instruction="Dogs count.")
        (score,) = await scorer.score("q", ["0.5 and so on"], options)
    assert score.truncated
    assert chat.passages(server.received[0].body) == ["0.5 an"]
    assert "Dogs count." in server.received[0].body["messages"][0]["content"]
