"""A replica that only waits: a model's time without its work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from models.types import DEFAULTS, Document, ModelInfo, ModelSpec, Score, ScoreOptions

SECONDS_PER_DOCUMENT = 0.0004
INFO = ModelInfo(
    name="waiting",
    source="none",
    revision="1",
    family="waiting",
    backend="none",
    device="cpu",
    dtype="float32",
    max_length=512,
    activation="identity",
    normalize_text=True,
    token_budget=4096,
)


class WaitingReplica:
    """Takes ModelReplica's place; one call at a time, as a forward pass would."""

    def __init__(self, spec: ModelSpec, **options: Any) -> None:
        self._busy = asyncio.Lock()

    async def info(self) -> ModelInfo:
        return INFO

    async def score(
        self, query: str, documents: Sequence[Document], options: ScoreOptions = DEFAULTS
    ) -> list[Score]:
        async with self._busy:
            await asyncio.sleep(SECONDS_PER_DOCUMENT * len(documents))
        return [Score(float(len(document) % 7), len(document) // 4) for document in documents]
