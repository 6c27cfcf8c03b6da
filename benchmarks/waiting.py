"""A model replica that only sleeps, to measure the service without a model's CPU cost.

Run: `python -m benchmarks.waiting` starts `rerank up` with it. WAITING_SECONDS_PER_TOKEN sets its
speed.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Sequence
from typing import Any

from models.types import DEFAULTS, Document, ModelInfo, ModelSpec, Score, ScoreOptions, ScoringError
from models.vectors import Vectors
from serve_app.cli import run_folder
from serve_app.cli.host import serve_forever
from serve_app.deployments.fairness import FairQueue
from serve_app.service.deadline import Deadline, within
from serve_app.settings import load

SECONDS_PER_TOKEN = float(os.environ.get("WAITING_SECONDS_PER_TOKEN", "0.00001"))
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
    token_budget=1024,
)


class WaitingReplica:
    """Takes ModelReplica's place; runs one call at a time, with its fair queue for large ones."""

    def __init__(self, spec: ModelSpec, **options: Any) -> None:
        self._busy = asyncio.Lock()
        self._queue = FairQueue(INFO.token_budget // 8, shared=1, alone=1)

    async def info(self) -> ModelInfo:
        return INFO

    async def score(
        self,
        query: str,
        documents: Sequence[Document],
        options: ScoreOptions = DEFAULTS,
        timeout_s: float = math.inf,
        alone: bool = False,
        revision: str | None = None,
    ) -> list[Score]:
        tokens = [len(document) // 4 for document in documents]
        slot = self._queue.slot(query, sum(tokens))
        async with within(Deadline.after(timeout_s).at), slot, self._busy:
            await asyncio.sleep(SECONDS_PER_TOKEN * sum(tokens))
        return [Score(float(number % 7), number) for number in tokens]

    async def embed(self, documents: Sequence[Document], options: ScoreOptions) -> Vectors:
        raise ScoringError("this model has no embeddings")


def main() -> None:
    folder = run_folder.create()
    try:
        serve_forever(load({}, os.environ), folder.path, threading.Event(), WaitingReplica)
    finally:
        folder.remove()


if __name__ == "__main__":
    # Imported by name, so that replica processes import the class instead of unpickling it.
    from benchmarks import waiting

    waiting.main()
