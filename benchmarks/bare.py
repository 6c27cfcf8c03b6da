"""The service's routes and scoring on bare uvicorn, without Ray: a baseline for other benchmarks.

Run: `python -m benchmarks.bare`. It is configured by the service's environment variables and
serves until interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import uvicorn

from benchmarks.waiting import WaitingReplica
from models.registry import load as load_model
from models.types import Document, ModelInfo, Score, ScoreOptions
from models.vectors import Vectors
from serve_app.api.app import make_app
from serve_app.api.request_body import Bodies
from serve_app.deployments.ingress import access_of, limits_of, store_of
from serve_app.service.admission import Admission
from serve_app.service.rerank import RerankService
from serve_app.service.retries import Replicas
from serve_app.settings import Settings, load
from serve_app.telemetry import Snapshot, Telemetry


class InProcess:
    """A scorer in this process that runs one forward pass at a time."""

    def __init__(self, settings: Settings) -> None:
        self._scorer = load_model(settings.spec(settings.models.local()[0]))
        self._thread = ThreadPoolExecutor(1)

    async def info(self) -> ModelInfo:
        return self._scorer.info

    async def score(
        self,
        query: str,
        documents: list[Document],
        options: ScoreOptions,
        timeout_s: float,
        alone: bool = False,
    ) -> list[Score]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, self._scorer.score, query, documents, options
        )

    async def embed(self, documents: list[Document], options: ScoreOptions) -> Vectors:
        loop = asyncio.get_running_loop()
        encoded = self._scorer.encode_documents(documents, options)
        return await loop.run_in_executor(self._thread, self._scorer.embed, encoded)


class Bare:
    """The object that the routes need, without Ray."""

    closing = False
    sets_request_id = True
    in_flight = 0
    max_in_flight = 10_000

    def __init__(self, settings: Settings, backend: Replicas | None = None) -> None:
        self.bodies = Bodies(settings.limits.inflight_bytes)
        self.created = int(time.time())
        self.limits = limits_of(settings)
        self.telemetry = Telemetry()
        self.access = access_of(settings, self.telemetry)
        self._backend: Replicas = backend or InProcess(settings)
        self.service = RerankService(
            catalog=settings.models.catalog(),
            replicas={settings.models.catalog().default: self._backend},
            store=store_of(settings),
            admission=Admission(
                settings.limits.max_parallel,
                settings.limits.max_queue,
                settings.limits.queue_timeout_s,
            ),
            telemetry=self.telemetry,
        )

    async def health(self) -> dict[str, Any]:
        info = await self._backend.info()
        return {"status": "ok", "models": {info.name: asdict(info)}}

    async def snapshot(self) -> Snapshot:
        return self.telemetry.snapshot()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--waiting", action="store_true", help="use a model that only sleeps (benchmarks.waiting)"
    )
    settings = load({}, os.environ)
    spec = settings.spec(settings.models.local()[0])
    bare = Bare(settings, WaitingReplica(spec) if parser.parse_args().waiting else None)
    app = make_app(lambda: bare)
    uvicorn.run(
        app,
        host=settings.serving.host,
        port=settings.serving.port,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
