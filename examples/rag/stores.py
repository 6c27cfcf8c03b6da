"""Minimal implementations: BM25, an in-memory vector store and an embedder."""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np

from examples.rag.protocols import Passage, Vectors
from models import embedded


class Bm25:
    """Finds passages that share words with a question."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._ids = [passage.id for passage in passages]
        self._index = bm25s.BM25()
        self._index.index(_tokenize([p.text for p in passages]), show_progress=False)

    def search(self, question: str, count: int) -> list[str]:
        """Return the ids of passages that share a word with the question, best first."""
        count = min(count, len(self._ids))
        found, scores = self._index.retrieve(_tokenize([question]), k=count, show_progress=False)
        return [self._ids[i] for i, s in zip(found[0], scores[0], strict=True) if s > 0]


def _tokenize(texts: list[str]) -> bm25s.tokenization.Tokenized:
    return bm25s.tokenize(texts, stopwords="en", show_progress=False)


class MemoryVectors:
    """A vector store backed by a numpy array."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._vectors: Vectors = np.empty((0, 0), np.float32)

    def add(self, ids: Sequence[str], vectors: Vectors) -> None:
        start = len(self._rows)
        self._rows |= {id: start + i for i, id in enumerate(ids)}
        self._vectors = np.vstack([self._vectors, vectors]) if start else vectors

    def search(self, vector: Vectors, count: int) -> list[str]:
        ids = list(self._rows)
        return [ids[i] for i in np.argsort(-(self._vectors @ vector))[:count]]

    def get(self, ids: Sequence[str]) -> Vectors:
        found: Vectors = self._vectors[[self._rows[id] for id in ids]]
        return found


class MiniLM:
    """all-MiniLM-L6-v2, the service's embedded weights (needs sentence-transformers)."""

    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(embedded.folder()), device="cpu")

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = self._model.encode(list(texts), normalize_embeddings=True)
        return np.asarray(vectors, np.float32)
