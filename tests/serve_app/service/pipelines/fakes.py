"""A service with a light, a heavy and a bi-encoder model, without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.types import DEFAULTS, Document, Score, ScoreOptions
from models.vectors import Vectors
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore
from serve_app.service.catalog import Catalog
from serve_app.service.pipelines import Pipeline
from serve_app.service.rerank import RerankService
from serve_app.telemetry import Telemetry
from serve_app.types import RerankRequest, RerankResult
from tests.serve_app.fakes import INFO, WordOverlap


class Numbers(WordOverlap):
    """Scores a document by the number at `place`: `0.3 0.9` scores 0.3 at place 0."""

    def __init__(self, name: str, place: int, **info: Any) -> None:
        super().__init__()
        self.info_ = replace(INFO, name=name, activation="clamp", **info)
        self.place = place
        self.asked: list[list[str]] = []
        self.pause_s = 0.0

    async def score(
        self,
        query: str,
        documents: Sequence[Document],
        options: ScoreOptions = DEFAULTS,
        timeout_s: float = 9.0,
        alone: bool = False,
    ) -> list[Score]:
        texts = [str(document) for document in documents]
        self.asked.append(texts)
        self.options.append(options)
        if self.failures:
            raise self.failures.pop(0)
        try:
            await asyncio.sleep(self.pause_s)
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.rows += len(texts)
        return [Score(float(text.split()[self.place]), 1) for text in texts]

    async def embed(self, documents: Sequence[Document], options: ScoreOptions) -> Vectors:
        """Return the numbers from the third on as vectors."""
        texts = [str(document).split()[2:] for document in documents]
        return np.array([[float(n) for n in text] for text in texts], dtype=np.float32)


class Kit:
    """A service over three fake models; `ask` ranks by the given stages."""

    def __init__(
        self,
        *,
        max_parallel: int = 8,
        fallbacks: Mapping[str, str] | None = None,
        **pipelines: Pipeline,
    ) -> None:
        self.light = Numbers("light", 0)
        self.heavy = Numbers("heavy", 1)
        self.dense = Numbers("dense", 0, embeds=True, family="bi-encoder")
        self.backends = {"light": self.light, "heavy": self.heavy, "dense": self.dense}
        self.telemetry = Telemetry()
        self.admission = Admission(max_parallel, 100, 5)
        self.service = RerankService(
            catalog=Catalog((*self.backends, *pipelines), "light", {"rerank-v3.5": "light"}),
            replicas=self.backends,
            store=MemoryStore(2**20, 60),
            admission=self.admission,
            telemetry=self.telemetry,
            max_retries=0,
            fallbacks=fallbacks or {"heavy": "light"},
            pipelines=pipelines,
        )

    async def ask(
        self, documents: Sequence[str], *stages: dict[str, Any], **more: Any
    ) -> RerankResult:
        pipeline = pipeline_of(*stages) if stages else None
        request = RerankRequest("bamboo", tuple(documents), pipeline=pipeline, **more)
        return await self.service.rerank(request)


def pipeline_of(*stages: dict[str, Any], budget_ms: int | None = None) -> Pipeline:
    return Pipeline.model_validate({"stages": stages, "budget_ms": budget_ms})


def order(result: RerankResult) -> list[int]:
    return [hit.index for hit in result.results]
