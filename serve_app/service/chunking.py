"""Splitting a request's documents into chunks, which replicas score in parallel."""

from __future__ import annotations

from collections.abc import Mapping

from models.types import Document

# A request of up to about one micro-batch, or 2,000 tokens, is scored in a single call: another
# call would cost more than it saves, and small requests finish sooner one after the other than
# interleaved.
SINGLE_CALL_CHARS_PER_TOKEN = 4
MIN_SINGLE_CALL_CHARS = 8192
# A chunk of a larger request is about a quarter of a micro-batch, so that replicas can serve other
# requests in between and share the request evenly.
CHUNK_CHARS_PER_TOKEN = 1
# In smaller chunks the overhead of the calls would dominate.
MIN_CHUNK_CHARS = 2048
MAX_CHUNK_CHARS = 48_000
MAX_CHUNK_DOCUMENTS = 128


def cut(texts: Mapping[bytes, Document], token_budget: int) -> list[list[bytes]]:
    """Split the keys into chunks of limited size, with texts of similar length together.

    Sorting by length keeps padding small. `token_budget`: tokens per micro-batch of the model.
    """
    single_call = min(
        MAX_CHUNK_CHARS, max(MIN_SINGLE_CALL_CHARS, token_budget * SINGLE_CALL_CHARS_PER_TOKEN)
    )
    if len(texts) <= MAX_CHUNK_DOCUMENTS and sum(map(len, texts.values())) <= single_call:
        return [list(texts)]
    chunk_chars = min(MAX_CHUNK_CHARS, max(MIN_CHUNK_CHARS, token_budget * CHUNK_CHARS_PER_TOKEN))
    chunks: list[list[bytes]] = []
    room = 0
    for key in sorted(texts, key=lambda k: len(texts[k])):
        if not chunks or room < len(texts[key]) or len(chunks[-1]) == MAX_CHUNK_DOCUMENTS:
            chunks.append([])
            room = chunk_chars
        chunks[-1].append(key)
        room -= len(texts[key])
    return chunks
