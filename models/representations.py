"""What documents became in the model, kept for later queries: bounded in bytes, in float16."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Beside the values: the key, the tensor's own object and what the dictionary keeps of both.
ENTRY_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Representation:
    """A document's `vectors`, [hidden] or [its tokens, hidden], to be multiplied by `scale`.

    `tokens`: of the row that was run; `truncated`: whether the document was cut for it.
    """

    vectors: torch.Tensor
    scale: float
    tokens: int
    truncated: bool


def key_of(document: str) -> bytes:
    """16 bytes; `document` is what the model reads, cut and cleaned, without lone surrogates."""
    return hashlib.blake2b(document.encode(), digest_size=16).digest()


class Representations:
    """The least recently used go first once `max_bytes` is reached; 0 keeps nothing.

    One thread may look up while another adds.
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
        """What is kept of each document."""
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
        """A representation of float32 `vectors`, rounded where representations are kept.

        New ones are rounded as well, so that a score is the same whether its document was known.
        `scaled`: the vectors may have any length; else none is longer than 1.
        """
        if not self.enabled:
            return Representation(vectors, 1.0, tokens, truncated)
        largest = float(vectors.abs().amax()) if scaled else 1.0
        scale = largest if math.isfinite(largest) and largest > 0 else 1.0
        return Representation((vectors / scale).half(), scale, tokens, truncated)

    def put(self, document: str, representation: Representation) -> None:
        """Keep it, unless it is not finite or larger than all the room."""
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
        """Documents of one request: known, run, and the tokens that the known ones have."""
        self._counts.update(hits=hits, misses=misses, saved_tokens=saved_tokens)

    def stats(self) -> dict[str, int]:
        """Counts since the start, entries and bytes; empty where nothing is kept."""
        if not self.enabled:
            return {}
        with self._lock:
            now = {"entries": len(self._kept), "bytes": self._bytes}
            names = ("hits", "misses", "saved_tokens", "evictions")
            return {**{name: self._counts[name] for name in names}, **now}


def _bytes(representation: Representation) -> int:
    return representation.vectors.numel() * 2 + ENTRY_BYTES
