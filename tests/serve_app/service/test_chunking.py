"""Chunks hold every key once, within their limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serve_app.service.chunking import (
    CHUNK_CHARS_PER_TOKEN,
    MAX_CHUNK_CHARS,
    MAX_CHUNK_DOCUMENTS,
    MIN_CHUNK_CHARS,
    MIN_SINGLE_CALL_CHARS,
    cut,
)

LENGTHS = st.lists(st.integers(0, 3000) | st.integers(0, 60_000), max_size=300)


def texts_of(lengths: list[int]) -> dict[bytes, str]:
    return {i.to_bytes(2, "big"): "x" * length for i, length in enumerate(lengths)}


@given(LENGTHS, st.integers(1, 100_000))
def test_every_key_is_in_exactly_one_chunk_of_limited_size(
    lengths: list[int], token_budget: int
) -> None:
    texts = texts_of(lengths)
    chunks = cut(texts, token_budget)
    assert sorted(key for chunk in chunks for key in chunk) == sorted(texts)
    limit = min(MAX_CHUNK_CHARS, max(MIN_CHUNK_CHARS, token_budget * CHUNK_CHARS_PER_TOKEN))
    for chunk in chunks:
        assert len(chunk) <= MAX_CHUNK_DOCUMENTS
        if len(chunks) > 1:
            assert len(chunk) == 1 or sum(len(texts[key]) for key in chunk) <= limit


@given(LENGTHS, st.integers(1, 100_000))
def test_chunks_are_sorted_by_length(lengths: list[int], token_budget: int) -> None:
    texts = texts_of(lengths)
    chunks = cut(texts, token_budget)
    if len(chunks) > 1:
        ordered = [len(texts[key]) for chunk in chunks for key in chunk]
        assert ordered == sorted(ordered)


def test_a_small_request_is_one_chunk_in_its_own_order() -> None:
    texts = texts_of([MIN_SINGLE_CALL_CHARS - 10, 1, 9])
    assert cut(texts, 1) == [list(texts)]
    assert len(cut({**texts, b"more": "x"}, 1)) > 1
    assert cut({}, 1) == [[]]
