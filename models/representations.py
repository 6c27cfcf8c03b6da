"""A cache of documents' representations for later queries: bounded in bytes, in float16."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Memory per entry in addition to the values: the key, the tensor object, the dictionary's own.
ENTRY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Representation:
    """A document's `vectors`, [hidden] or [tokens, hidden], to be multiplied by `scale`.

    `tokens`: length of the document's row; `truncated`: whether the document was cut to fit it.
    """

    vectors: torch.Tensor
    scale: float
    tokens: int
    truncated: bool


def key_of(document: str) -> bytes:
    """A 16-byte key for `document`: text as the model reads it, without lone surrogates."""
    return hashlib.blake2b(document.encode(), digest_size=16).digest()


class Representations:
    """An LRU cache of at most `max_bytes`; with 0 it keeps nothing.

    Threads may share it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, Representation] = OrderedDict()
        self._bytes = 0
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def enabled(self) -> bool:
        return self._max_bytes > 0

    def get_many(self, documents: Sequence[str]) -> list[Representation | None]:
        """The kept representation of each document, or None."""
        if not self.enabled:
            return [None] * len(documents)
        keys = [key_of(document) for document in documents]
        with self._lock:
            found = [self._kept.get(key) for key in keys]
            for key, representation in zip(keys, found, strict=True):
                if representation is not None:
                    self._kept.move_to_end(key)
        return found

    def make(
        self, vectors: torch.Tensor, *, tokens: int, truncated: bool, scaled: bool = False
    ) -> Representation:
        """Make a representation of float32 `vectors`, rounded to float16 if the cache is enabled.

        It is rounded even before it is kept, so that a score does not depend on whether the
        document was cached. `scaled`: vectors may have any norm; otherwise at most 1.
        """
        if not self.enabled:
            return Representation(vectors, 1.0, tokens, truncated)
        largest = float(vectors.abs().amax()) if scaled else 1.0
        scale = largest if math.isfinite(largest) and largest > 0 else 1.0
        return Representation((vectors / scale).half(), scale, tokens, truncated)

    def put(self, document: str, representation: Representation) -> None:
        """Keep a representation, unless it has non-finite values or exceeds `max_bytes` alone."""
        size = _bytes(representation)
        if size > self._max_bytes or not bool(representation.vectors.isfinite().all()):
            return
        key = key_of(document)
        with self._lock:
            old = self._kept.pop(key, None)
            self._bytes += size - (0 if old is None else _bytes(old))
            self._kept[key] = representation
            while self._bytes > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= _bytes(oldest)
                self._counts["evictions"] += 1

    def count(self, *, hits: int, misses: int, saved_tokens: int) -> None:
        """Count one request's documents: cached, run, and the tokens of the cached ones."""
        with self._lock:
            self._counts.update(hits=hits, misses=misses, saved_tokens=saved_tokens)

    def stats(self) -> dict[str, int]:
        """Counts since the start, current entries and bytes; empty if the cache is disabled."""
        if not self.enabled:
            return {}
        with self._lock:
            now = {"entries": len(self._kept), "bytes": self._bytes}
            names = ("hits", "misses", "saved_tokens", "evictions")
            return {**{name: self._counts[name] for name in names}, **now}


def _bytes(representation: Representation) -> int:
    return representation.vectors.numel() * 2 + ENTRY_BYTES
