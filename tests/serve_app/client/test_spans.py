"""Relevant spans in the client's results."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from serve_app.client import AsyncReranker, Reranker, Span, SpanOptions, TokenUsageTracker
from serve_app.client.spans import highlight
from serve_app.errors import InvalidRequest

TEXT = "Pandas live in China. Pandas eat bamboo 🎋. Stocks fell."
REQUEST = ("pandas eat", [TEXT, "Rain."])


def test_hits_have_spans(reranker: Reranker) -> None:
    found = reranker.rerank(*REQUEST, relevant_spans=SpanOptions(threshold=0.0, max_spans=2))
    first, second = found
    assert [span.of(first.text) for span in first.spans][:1] == ["Pandas eat bamboo 🎋."]
    assert len(first.spans) == 2
    assert first.spans[0].score > first.spans[1].score
    assert len(second.spans) == 1
    assert "> Pandas eat bamboo" in str(found)
    assert found.to_dicts()[0]["spans"][0]["end"] == first.spans[0].end
    assert list(found.to_pandas().columns) == ["index", "score", "text", "spans"]
    (hit,) = reranker.rerank(*REQUEST, top_k=1, relevant_spans=SpanOptions(0.0, 1))
    marked = hit.highlight("<b>", "</b>")
    assert marked == "Pandas live in China. <b>Pandas eat bamboo 🎋.</b> Stocks fell."


def test_there_are_no_spans_unless_requested(reranker: Reranker) -> None:
    for relevant_spans in (None, False):
        found = reranker.rerank(*REQUEST, relevant_spans=relevant_spans)
        assert [hit.spans for hit in found] == [(), ()]
        assert "spans" not in found.to_dicts()[0]
        assert found[0].highlight() == TEXT


def test_every_batch_and_query_has_spans(reranker: Reranker) -> None:
    found = reranker.rerank(*REQUEST, relevant_spans=True, batch_size=1)
    assert any(span.of(TEXT).startswith("Pandas eat") for span in found[0].spans)
    (one, two) = reranker.batch([REQUEST, REQUEST], relevant_spans=True)
    assert one[0].spans == two[0].spans == found[0].spans


async def test_spans_through_a_ray_handle() -> None:
    seen: list[Any] = []

    class Handle:
        class rerank:
            @staticmethod
            async def remote(query: str, documents: list[str], **fields: Any) -> Any:
                seen.append(fields["relevant_spans"])
                own = (SimpleNamespace(start=0, end=5, score=0.5),)
                hit = SimpleNamespace(index=0, relevance_score=0.9, relevant_spans=own)
                return SimpleNamespace(results=(hit,), model="m", tokens=3, truncated=())

    client = AsyncReranker(Handle(), tracker=TokenUsageTracker())
    found = await client.rerank("q", ["Rain. Sun."], relevant_spans=SpanOptions(max_spans=1))
    assert found[0].spans == (Span(0, 5, 0.5),)
    assert seen == [{"mode": "enabled", "threshold": 0.1, "max_spans": 1}]


def test_invalid_span_options_are_rejected(reranker: Reranker) -> None:
    with pytest.raises(InvalidRequest, match="SpanOptions"):
        reranker.rerank(*REQUEST, relevant_spans={"mode": "enabled"})  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="threshold"):
        reranker.rerank(*REQUEST, relevant_spans=SpanOptions(threshold=3))


def test_overlapping_spans_are_highlighted_as_one() -> None:
    spans = [Span(4, 7, 0.1), Span(0, 2, 0.2), Span(6, 9, 0.3), Span(2, 3, 0.4)]
    assert highlight("0123456789", spans, "[", "]") == "[01][2]3[45678]9"
    assert highlight("abc", [], "[", "]") == "abc"
