"""Cache keys: everything that a pair's raw score depends on, and nothing else."""

from __future__ import annotations

import hashlib

from models.types import ModelInfo


class PairKeys:
    """The keys of one query's documents. The shared part is hashed once."""

    def __init__(self, info: ModelInfo, query: str, instruction: str = "") -> None:
        self._shared = hashlib.blake2b(digest_size=16)
        parts = (info.name, info.source, info.revision, info.dtype, str(info.max_length))
        for part in (*parts, instruction, query):
            data = part.encode()
            # The length goes first, so that no two lists of parts read the same.
            self._shared.update(len(data).to_bytes(8, "big") + data)

    def of(self, document: str) -> bytes:
        """16 bytes; `document` holds no lone surrogate."""
        digest = self._shared.copy()
        digest.update(document.encode())
        return digest.digest()
