"""Real text, and an embedder that needs no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import pytest

from examples.rag.corpus import docstrings
from examples.rag.protocols import Passage, Vectors

QUESTION = "Wrap a single paragraph of text, returning a list of wrapped lines."
ANSWER = "textwrap.wrap"
DIMENSIONS = 512


class HashEmbedder:
    """Embeds a text as hashed word counts."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, crc32(word.encode()) % DIMENSIONS] += 1
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        found: Vectors = vectors / np.maximum(lengths, 1)
        return found


@pytest.fixture(scope="session")
def passages() -> list[Passage]:
    return docstrings()
