"""A fake backend, and services and HTTP routes on top of it, without Ray."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import httpx
from starlette.types import ASGIApp

from models.types import DEFAULTS, Document, ModelInfo, Score, ScoreOptions
from serve_app.access import Access, Visit
from serve_app.api.app import make_app
from serve_app.api.dialects import Limits, Wire
from serve_app.api.request_body import Bodies
from serve_app.api.rerank import Call
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore, ScoreStore
from serve_app.service.catalog import Catalog
from serve_app.service.rerank import RerankService
from serve_app.telemetry import Snapshot, Telemetry
from serve_app.types import RerankRequest
from tests.word_overlap import shared_words

INFO = ModelInfo(
    name="words",
    source="test",
    revision="1",
    family="test",
    backend="test",
    device="cpu",
    dtype="float32",
    max_length=64,
    activation="identity",
    normalize_text=True,
    token_budget=64,
)


class WordOverlap:
    """Scores a document by the number of query words in it, and records its calls."""

    def __init__(self) -> None:
        self.rows = 0
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self.timeouts: list[float] = []
        self.alone: list[bool] = []
        self.info_ = INFO
        self.options: list[ScoreOptions] = []

    async def info(self) -> ModelInfo:
        return self.info_

    async def score(
        self,
        query: str,
        documents: list[Document],
        options: ScoreOptions = DEFAULTS,
        timeout_s: float = math.inf,
        alone: bool = False,
    ) -> list[Score]:
        self.timeouts.append(timeout_s)
        self.alone.append(alone)
        if self.failures:
            raise self.failures.pop(0)
        self.rows += len(documents)
        self.options.append(options)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        texts = [d if isinstance(d, str) else d.text for d in documents]
        lengths = [len(text.split()) for text in texts]
        return [
            Score(float(shared_words(query, text)), length, length > INFO.max_length)
            for text, length in zip(texts, lengths, strict=True)
        ]


def named(name: str, **more: Any) -> WordOverlap:
    backend = WordOverlap()
    backend.info_ = replace(INFO, name=name, **more)
    return backend


def ask(*documents: Document, query: str = "a b c", **fields: Any) -> RerankRequest:
    return RerankRequest(query, documents, **fields)


def make_service(
    backend: WordOverlap,
    *,
    store: ScoreStore | None = None,
    max_parallel: int = 8,
    image_hosts: Sequence[str] = (),
    **options: float,
) -> RerankService:
    return RerankService(
        catalog=Catalog(("words",), "words", {"rerank-v3.5": "words"}),
        replicas={"words": backend},
        store=store or MemoryStore(2**20, 60),
        admission=Admission(max_parallel, 4, 0.2),
        telemetry=Telemetry(),
        max_retries=int(options.get("max_retries", 1)),
        worker_timeout_s=options.get("worker_timeout_s", 5.0),
        image_hosts=image_hosts,
    )


async def answer(
    service: RerankService, dialect: Wire, body: Mapping[str, Any], limits: Limits
) -> tuple[bytes, Mapping[str, float]]:
    """Return the response body and timings for a client without a key."""
    visit = Visit(Access(Telemetry()), "anonymous")
    return await Call(service, visit, math.inf).answer(dialect, body, limits, large=False)


class FakeFrontend:
    """What the routes need from their process, with the fake backend."""

    closing = False
    sets_request_id = True

    def __init__(
        self, backend: WordOverlap | None = None, limits: Limits | None = None, **access: Any
    ) -> None:
        self.in_flight = 0
        self.max_in_flight = 1000
        self.bodies = Bodies(256 * 2**20)
        self.created = 1
        self.limits = limits or Limits()
        self.backend = backend or WordOverlap()
        self.service = make_service(self.backend)
        self.telemetry = self.service._telemetry
        self.access = Access(self.telemetry, **access)

    async def health(self) -> dict[str, Any]:
        models = {INFO.name: {**asdict(INFO)}}
        queue = {"max_parallel": 8}
        return {"status": "ok", "controller": queue, "models": models, "default_model": INFO.name}

    async def snapshot(self) -> Snapshot:
        return self.telemetry.snapshot(waiting=0, active=0)

    def app(self) -> ASGIApp:
        return make_app(lambda: self)

    def client(self, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app(), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


class Clock:
    """A monotonic clock that is advanced by setting `now`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
