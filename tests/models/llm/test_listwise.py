"""Judges that rank a window of documents per call."""

from __future__ import annotations

import json
import random

import pytest

from models.llm.listwise import windows
from models.registry import load_remote
from models.remote.errors import RemoteAnswerError, RemoteRefused
from models.remote.types import RemoteSpec
from tests.models.llm import fake_chat as chat
from tests.models.llm.judges import DOCUMENTS, spec_of
from tests.models.remote import fake_provider as fake
from tests.models.remote.fake_provider import as_json


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
