"""Cache keys: everything that a pair's raw score depends on, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from models.types import DEFAULTS, Document, ModelInfo, ScoreOptions


class PairKeys:
    """The keys of one query's documents. The shared part is hashed once."""

    def __init__(self, info: ModelInfo, query: str, options: ScoreOptions = DEFAULTS) -> None:
        self._shared = hashlib.blake2b(digest_size=16)
        what = (info.name, info.source, info.revision, info.family, info.template, info.detail)
        how = (
            info.backend,
            info.dtype,
            info.max_length,
            options.instruction or info.instruction,
            options.max_tokens_per_doc or info.max_tokens_per_doc,
            options.long_document or info.long_document,
            options.query_image,
            options.explain or None,
        )
        for part in (*what, *how, query):
            self._add("" if part is None else str(part))

    def _add(self, part: str) -> None:
        data = part.encode()
        # The length goes first, so that no two lists of parts read the same.
        self._shared.update(len(data).to_bytes(8, "big") + data)

    def all(self, documents: Sequence[Document]) -> list[bytes]:
        """The keys of all documents of a listwise model's request: each depends on the others."""
        for document in documents:
            self._add(_identity(document))
        keys = []
        for i in range(len(documents)):
            digest = self._shared.copy()
            digest.update(i.to_bytes(8, "big"))
            keys.append(digest.digest())
        return keys

    def of(self, document: Document) -> bytes:
        """16 bytes; `document` holds no lone surrogate."""
        digest = self._shared.copy()
        digest.update(_identity(document).encode())
        return digest.digest()


def _identity(document: Document) -> str:
    """A text is itself after a T, an image after an I, so that neither passes for the other."""
    return f"T{document}" if isinstance(document, str) else f"I{document.identity}"
