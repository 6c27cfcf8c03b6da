"""The interfaces of the vector store, the embedder and the model; implement them for your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text that an answer can quote; `id` is unique in the corpus."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Embedder(Protocol):
    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors [texts, dimensions]."""
        ...


class VectorStore(Protocol):
    def add(self, ids: Sequence[str], vectors: Vectors) -> None: ...

    def search(self, vector: Vectors, count: int) -> list[str]:
        """Return the ids of the vectors nearest to `vector` [dimensions], nearest first."""
        ...

    def get(self, ids: Sequence[str]) -> Vectors:
        """Return the vectors of `ids`, [ids, dimensions]."""
        ...


class Model(Protocol):
    def answer(self, question: str, passages: Sequence[Passage]) -> str:
        """Answer from the passages, citing them as [1], [2], …"""
        ...
