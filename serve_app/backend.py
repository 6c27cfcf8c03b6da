"""A model's replicas as the service sees them, behind a Ray Serve handle."""

from __future__ import annotations

import asyncio
from typing import Any

from ray.exceptions import RayTaskError

from models.types import Document, ModelInfo, Score, ScoreOptions


class HandleBackend:
    """Calls a ModelReplica deployment; a replica's exception comes out as it was raised."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._info: ModelInfo | None = None
        self._lock = asyncio.Lock()

    async def info(self) -> ModelInfo:
        """What the model is; asked once, so that cached answers need no replica."""
        async with self._lock:
            if self._info is None:
                self._info = await self._call("info")
        return self._info

    async def score(
        self, query: str, documents: list[Document], options: ScoreOptions
    ) -> list[Score]:
        scores: list[Score] = await self._call("score", query, documents, options)
        return scores

    async def _call(self, method: str, *args: object) -> Any:
        try:
            return await getattr(self._handle, method).remote(*args)
        except RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, Exception):
                raise cause from None
            raise
