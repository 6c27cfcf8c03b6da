"""A request's documents, cut into parts that replicas share."""

from __future__ import annotations

from collections.abc import Mapping

from models.types import Document

# Characters of documents in a chunk: small enough to share a large request over replicas and
# to let a short request in between, large enough to fill several micro-batches.
CHUNK_CHARS = 48_000
CHUNK_DOCUMENTS = 128


def cut(texts: Mapping[bytes, Document]) -> list[list[bytes]]:
    """Keys in chunks of bounded length; texts of like length together, so padding stays small."""
    chunks: list[list[bytes]] = []
    room = 0
    for key in sorted(texts, key=lambda k: len(texts[k])):
        if not chunks or room < len(texts[key]) or len(chunks[-1]) == CHUNK_DOCUMENTS:
            chunks.append([])
            room = CHUNK_CHARS
        chunks[-1].append(key)
        room -= len(texts[key])
    return chunks
