"""Cache keys: a hash of everything that a pair's raw score depends on, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from models.types import DEFAULTS, Document, ModelInfo, ScoreOptions


class PairKeys:
    """Keys for the documents of one query. The part they share is hashed once."""

    def __init__(self, info: ModelInfo, query: str, options: ScoreOptions = DEFAULTS) -> None:
        self._shared = hashlib.blake2b(digest_size=16)
        model = (info.name, info.source, info.revision, info.family, info.template, info.detail)
        settings = (
            info.backend,
            info.dtype,
            info.max_length,
            options.instruction or info.instruction,
            options.max_tokens_per_doc or info.max_tokens_per_doc,
            options.long_document or info.long_document,
            options.query_image,
            options.explain or None,
        )
        for part in (*model, *settings, query):
            self._add("" if part is None else str(part))

    def _add(self, part: str) -> None:
        data = part.encode()
        # Each part is prefixed with its length, so that different parts never concatenate alike.
        self._shared.update(len(data).to_bytes(8, "big") + data)

    def all(self, documents: Sequence[Document]) -> list[bytes]:
        """Return the keys for a listwise model: each depends on all documents and their order."""
        for document in documents:
            self._add(_identity(document))
        keys = []
        for i in range(len(documents)):
            digest = self._shared.copy()
            digest.update(i.to_bytes(8, "big"))
            keys.append(digest.digest())
        return keys

    def of(self, document: Document) -> bytes:
        """Return the 16-byte key of a document, which must not contain lone surrogates."""
        digest = self._shared.copy()
        digest.update(_identity(document).encode())
        return digest.digest()


def _identity(document: Document) -> str:
    """Prefix texts with T and images with I, so that a text never has the key of an image."""
    return f"T{document}" if isinstance(document, str) else f"I{document.identity}"
