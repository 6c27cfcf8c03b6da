"""A request's documents, cut into parts that replicas share."""

from __future__ import annotations

from collections.abc import Mapping

from models.types import Document

# What fills no more than about one micro-batch, or 2,000 tokens, is not worth a second call; and
# small requests that are scored one after the other are each answered sooner than in turns.
WHOLE_CHARS_PER_TOKEN = 4
LEAST_WHOLE_CHARS = 8192
# A chunk of a larger request is about a quarter of a micro-batch: a replica lets other requests in
# between two of them, and the request comes out even over several replicas. All of its texts lie
# in chunks by their length, so that small ones cost no padding.
CHUNK_CHARS_PER_TOKEN = 1
# Below that the calls themselves would cost.
LEAST_CHUNK_CHARS = 2048
CHUNK_CHARS = 48_000
CHUNK_DOCUMENTS = 128


def cut(texts: Mapping[bytes, Document], token_budget: int) -> list[list[bytes]]:
    """Keys in chunks of bounded length; texts of like length together, so padding stays small.

    `token_budget`: tokens of the model's micro-batches.
    """
    whole = min(CHUNK_CHARS, max(LEAST_WHOLE_CHARS, token_budget * WHOLE_CHARS_PER_TOKEN))
    if len(texts) <= CHUNK_DOCUMENTS and sum(map(len, texts.values())) <= whole:
        return [list(texts)]
    longest = min(CHUNK_CHARS, max(LEAST_CHUNK_CHARS, token_budget * CHUNK_CHARS_PER_TOKEN))
    chunks: list[list[bytes]] = []
    room = 0
    for key in sorted(texts, key=lambda k: len(texts[k])):
        if not chunks or room < len(texts[key]) or len(chunks[-1]) == CHUNK_DOCUMENTS:
            chunks.append([])
            room = longest
        chunks[-1].append(key)
        room -= len(texts[key])
    return chunks
