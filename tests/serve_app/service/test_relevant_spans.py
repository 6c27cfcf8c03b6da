"""Relevant spans: splitting into sentences, scoring them and returning the best first."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.types import ScoreOptions
from serve_app.errors import InvalidRequest
from serve_app.service import relevant_spans
from serve_app.service.relevant_spans import sentences
from serve_app.types import RerankRequest, SpanOptions
from tests.serve_app.fakes import WordOverlap, make_service, named

TEXT = "Ships sail. Pandas eat bamboo! Where?\n\nIn China, e.g. in zoos, and at No. 5 there."


def cut(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("one", ["one"]),
        (
            TEXT,
            [
                "Ships sail.",
                "Pandas eat bamboo!",
                "Where?",
                "In China, e.g. in zoos, and at No. 5 there.",
            ],
        ),
        ("She said “Go.” Then left.", ["She said “Go.”", "Then left."]),
        ("猫は魚を食べる。「本当？」はい。", ["猫は魚を食べる。", "「本当？」", "はい。"]),
        ("Version 3.11 is out. Ünder it.", ["Version 3.11 is out.", "Ünder it."]),
        ("🐼 eats. 🐟 swims.", ["🐼 eats.", "🐟 swims."]),
    ],
)
def test_text_is_split_into_sentences(text: str, expected: list[str]) -> None:
    assert cut(text) == expected


@given(st.text())
def test_sentences_cover_everything_but_white_space(text: str) -> None:
    assert "".join("".join(cut(text)).split()) == "".join(text.split())


# The earlier pattern, which takes quadratic time on some texts, splits in the same places.
_PLAIN_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s+[^\sa-z\d])|[。！？]+[”’」』）]*|\n+")


@given(st.text(st.sampled_from("aB1 \n.!…。」\"')")))
def test_sentences_end_where_the_pattern_says(text: str) -> None:
    bounds = [0, *(match.end() for match in _PLAIN_END.finditer(text)), len(text)]
    pieces = [text[start:end].strip() for start, end in itertools.pairwise(bounds)]
    assert cut(text) == [piece for piece in pieces if piece]


@pytest.mark.parametrize(
    "text", ["." * 300_000, "." * 150_000 + " " * 150_000 + "a", "." * 150_000 + '"' * 150_000]
)
def test_runs_of_stops_are_searched_in_linear_time(text: str) -> None:
    # In quadratic time this would take many minutes.
    assert cut(text) == [text]


async def test_large_documents_are_split_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: set[int] = set()

    def noting(text: str) -> Any:
        threads.add(threading.get_ident())
        return sentences(text)

    monkeypatch.setattr(relevant_spans, "sentences", noting)
    await make_service(WordOverlap()).rerank(request("A b. " * 5_000))
    assert threads.isdisjoint({threading.get_ident()})


def test_sentences_are_counted_no_further_than_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevant_spans, "MAX_SENTENCES", 3)
    found = []

    def counted(text: str) -> Any:
        for span in sentences(text):
            found.append(span)
            yield span

    monkeypatch.setattr(relevant_spans, "sentences", counted)
    with pytest.raises(InvalidRequest):
        asyncio.run(make_service(WordOverlap()).rerank(request("A. " * 1_000)))
    assert len(found) == 4


def request(*documents: str, **options: object) -> RerankRequest:
    wanted = SpanOptions(**options)  # type: ignore[arg-type]
    return RerankRequest("pandas eat", documents, relevant_spans=wanted)


async def test_the_best_sentences_come_first() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    result = await service.rerank(request("Nothing here.", TEXT, "Pandas sleep."))
    assert result.results[0].index == 1
    best = result.results[0].relevant_spans
    assert TEXT[best[0].start : best[0].end] == "Pandas eat bamboo!"
    assert [s.score for s in best] == sorted((s.score for s in best), reverse=True)
    assert all(0 <= s.score <= 1 for s in best)


async def test_spans_are_limited_by_threshold_and_max_spans() -> None:
    service = make_service(WordOverlap())
    every = (await service.rerank(request(TEXT, threshold=0.0))).results[0].relevant_spans
    assert len(every) == 4
    high = (await service.rerank(request(TEXT, threshold=every[0].score))).results[0]
    assert high.relevant_spans == every[:1]
    two = (await service.rerank(request(TEXT, threshold=0.0, max_spans=2))).results[0]
    assert two.relevant_spans == every[:2]
    assert (await service.rerank(request(TEXT, threshold=1.0))).results[0].relevant_spans == ()


async def test_only_returned_documents_are_searched_for_spans() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    asked = replace(request("Pandas eat. So.", "Ships sail. So."), top_n=1)
    result = await service.rerank(asked)
    [only] = result.results
    assert only.index == 0
    assert only.relevant_spans
    assert result.timings_ms["spans"] >= 0
    again = await service.rerank(asked)
    assert again.cached_tokens == again.tokens == result.tokens


async def test_no_sentences_are_scored_unless_spans_are_requested() -> None:
    backend = WordOverlap()
    plain = await make_service(backend).rerank(RerankRequest("pandas eat", (TEXT,)))
    asked = await make_service(backend).rerank(request(TEXT))
    assert plain.results[0].relevant_spans == ()
    assert plain.tokens < asked.tokens


async def test_too_many_sentences_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relevant_spans, "MAX_SENTENCES", 3)
    with pytest.raises(InvalidRequest, match="lower top_n"):
        await make_service(WordOverlap()).rerank(request(TEXT))


async def test_explanations_are_requested_for_documents_but_not_for_spans() -> None:
    backend = named("words", explains=True)
    options = ScoreOptions(explain=True)
    asked = RerankRequest("a", ("a b. C d.",), options=options, relevant_spans=SpanOptions())
    await make_service(backend).rerank(asked)
    assert [o.explain for o in backend.options] == [True, False]
