"""Splitting documents into calls, sharing tokens, and shortening texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from models.remote import cutting


@given(
    st.integers(0, 50),
    st.lists(st.integers(1, 100), max_size=60),
    st.integers(1, 20),
    st.none() | st.integers(1, 300),
)
def test_every_document_is_in_exactly_one_call_within_the_limits(
    query: int, tokens: list[int], max_documents: int, max_tokens: int | None
) -> None:
    parts = cutting.calls(query, tokens, max_documents=max_documents, max_tokens=max_tokens)
    assert [i for part in parts for i in part] == list(range(len(tokens)))
    for part in parts:
        assert 1 <= len(part) <= max_documents
        cost = sum(query + tokens[i] for i in part)
        assert len(part) == 1 or max_tokens is None or cost <= max_tokens


@given(st.integers(0, 10_000), st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_shares_are_proportional_and_add_up(total: int, weights: list[int]) -> None:
    shared = cutting.shares(total, weights)
    assert sum(shared) == total
    for share, weight in zip(shared, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) <= 1


@given(st.text(), st.integers(1, 20))
def test_a_shortened_text_is_a_prefix_within_the_token_limit(text: str, tokens: int) -> None:
    short = cutting.shorten(text.encode(errors="ignore").decode(), tokens=tokens)
    assert text.encode(errors="ignore").decode().startswith(short)
    assert cutting.estimate(short) <= tokens
