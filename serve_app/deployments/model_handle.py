"""A model's replicas behind a Ray Serve handle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ray.exceptions import RayTaskError

from models.types import Document, ModelInfo, Score, ScoreOptions
from models.vectors import Vectors
from serve_app.deployments.metrics_hub import LoadedModel, recall_info
from serve_app.telemetry import tracing

RECALL_TIMEOUT_S = 2.0
# Added to the timeout that a replica gets. The caller cancels at the deadline itself, which the
# replica does not log. The replica's own timeout, which it logs as an error, is only for lost
# cancellations, such as after a crash of the ingress.
GRACE_S = 0.25

logger = logging.getLogger("ray.serve")


class ReplicasHandle:
    """Calls a ModelReplica deployment, and raises the replica's own exceptions."""

    def __init__(self, handle: Any, recall: Callable[[], Awaitable[LoadedModel | None]]) -> None:
        """`recall` returns the model's info if it is known without asking a replica."""
        self._handle = handle
        self._recall = recall
        self._lock = asyncio.Lock()
        self.known: LoadedModel | None = None

    async def info(self) -> ModelInfo:
        """Return the model's info. Cached results need no replica once it is known.

        `learn` replaces it when the hub hears of a replica that was loaded later.
        """
        if self.known is None:
            async with self._lock:
                if self.known is None:
                    self.known = await recall_info(self._recall, RECALL_TIMEOUT_S)
                if self.known is None:
                    self.known = LoadedModel(await self._call("info"))
        return self.known.info

    def learn(self, told: LoadedModel) -> None:
        """Take the hub's info if its replica was loaded later than that of the known one."""
        self.known = told if self.known is None else self.known.or_newer(told)

    async def ask(self) -> ModelInfo:
        """Ask a replica for its info, whatever is known."""
        info: ModelInfo = await self._call("info")
        self.learn(LoadedModel(info))
        return info

    async def score(
        self,
        query: str,
        documents: list[Document],
        options: ScoreOptions,
        timeout_s: float,
        alone: bool = False,
    ) -> list[Score]:
        told = timeout_s + GRACE_S
        revision = self.known.info.revision if self.known is not None else None
        named: dict[str, object] = {**tracing.trace_kwargs(), **({"alone": True} if alone else {})}
        scores: list[Score] = await self._call(
            "score", query, documents, options, told, revision=revision, **named
        )
        return scores

    async def embed(self, documents: list[Document], options: ScoreOptions) -> Vectors:
        """Embed the documents: vectors [documents, hidden]. Needs a model with `info.embeds`."""
        vectors: Vectors = await self._call("embed", documents, options)
        return vectors

    async def _call(self, method: str, *args: object, **named: object) -> Any:
        try:
            return await getattr(self._handle, method).remote(*args, **named)
        except RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, Exception):
                raise cause from None
            raise
