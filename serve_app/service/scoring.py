"""A request's pairs to their scores: store, dedupe, scatter, gather. Plain asyncio."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from models.concurrency import gather_or_cancel, yielding
from models.types import Document, ModelInfo, Score, ScoreOptions
from models.vectors import Vectors
from serve_app.errors import ScoringFailed
from serve_app.service.admission import Admission
from serve_app.service.cache import ScoreStore, SingleFlight
from serve_app.service.chunking import cut
from serve_app.service.deadline import Deadline
from serve_app.telemetry import tracing
from serve_app.types import RerankRequest

LOOKUP_KEYS = 64


class Backend(Protocol):
    """One model's replicas as the service sees them."""

    async def info(self) -> ModelInfo: ...

    async def score(
        self, query: str, documents: list[Document], options: ScoreOptions, timeout_s: float
    ) -> list[Score]:
        """Raises DeadlineExceeded, and spends no forward pass, after `timeout_s` seconds."""
        ...

    async def embed(self, documents: list[Document], options: ScoreOptions) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class Pairs:
    """A query with each document under its key; `order` has the keys as the documents came."""

    name: str
    info: ModelInfo
    query: str
    order: Sequence[bytes]
    by_key: Mapping[bytes, Document]

    @property
    def listwise(self) -> bool:
        return self.info.listwise


@dataclass(slots=True)
class Found:
    """Scores by key: `known` were kept, `shared` of them by the shared store alone; `fresh` were
    made for the `missing`, `joined` of them by another request that asked first."""

    known: dict[bytes, Score]
    shared: int
    missing: Sequence[bytes]
    fresh: dict[bytes, Score] = field(default_factory=dict)
    joined: int = 0

    @property
    def scores(self) -> dict[bytes, Score]:
        return self.known | self.fresh


class Scoring:
    """Scores of pairs over one score store; each pair is scored once, however many ask."""

    def __init__(
        self,
        store: ScoreStore,
        admission: Admission,
        backends: Mapping[str, Backend],
        answer: Callable[[str, Callable[[float], Awaitable[Any]], Deadline], Awaitable[Any]],
    ) -> None:
        """`answer` calls a model's replica, within a deadline and with further tries."""
        self._store = store
        self._admission = admission
        self._backends = backends
        self._answer = answer
        self._flights = SingleFlight()

    async def of(self, pairs: Pairs, request: RerankRequest, timings: dict[str, float]) -> Found:
        """Every pair's score; `timings`, which has those of `lookup` so far, gets the stages'
        milliseconds. Raises a RerankError."""
        landed, looking = self._flights.landed, time.perf_counter()
        # Reasons are not kept: they would take more room than the scores.
        kept = not request.options.explain
        found = (
            await self._look_up(list(pairs.by_key)) if kept else Found({}, 0, list(pairs.by_key))
        )
        if pairs.listwise and found.missing:
            # One score alone means nothing: all are made anew.
            found = Found({}, 0, pairs.order)
        took = time.perf_counter() - looking
        timings["lookup"] += took * 1000
        tracing.past("lookup", took, hits=len(found.known), misses=len(found.missing))
        if not found.missing:
            return found

        def waited(seconds: float) -> None:
            timings["queue"] = seconds * 1000
            tracing.past("queue", seconds)

        async with self._admission.slot(waited, request.priority):
            if self._flights.landed != landed and kept and not pairs.listwise:
                # Others' scores came in while this one waited: don't score those again.
                late = await self._look_up(found.missing)
                found = Found(found.known | late.known, found.shared + late.shared, late.missing)
            scoring = time.perf_counter()
            make = partial(self._make, pairs, request.options)
            found.fresh, found.joined = await self._flights.run(
                found.missing, make, request.deadline
            )
        timings["score"] = (time.perf_counter() - scoring) * 1000
        return found

    async def _look_up(self, keys: Sequence[bytes]) -> Found:
        """What is kept, in this process first."""
        known: dict[bytes, Score] = {}
        async for start in yielding(range(0, len(keys), LOOKUP_KEYS)):
            known.update(self._store.get_many(keys[start : start + LOOKUP_KEYS]))
        missing = [key for key in keys if key not in known]
        shared = await self._store.fetch(missing) if missing else {}
        missing = [key for key in missing if key not in shared]
        return Found(known | shared, len(shared), missing)

    async def _make(
        self, pairs: Pairs, options: ScoreOptions, keys: Sequence[bytes], until: Deadline
    ) -> dict[bytes, Score]:
        """Scores that no store has; what is kept is made once among all servers."""
        ask = partial(self._score, pairs, options, until)
        if options.explain:
            return await ask(keys)
        return await self._store.once(keys, score=ask, whole=pairs.listwise)

    async def _score(
        self, pairs: Pairs, options: ScoreOptions, until: Deadline, keys: Sequence[bytes]
    ) -> dict[bytes, Score]:
        """The replicas' scores, of several chunks at a time."""
        texts = {key: pairs.by_key[key] for key in keys}
        whole = pairs.listwise or pairs.info.whole_requests
        chunks = [list(texts)] if whole else cut(texts, pairs.info.token_budget)
        parts = await gather_or_cancel(
            self._chunk(pairs, options, until, chunk) for chunk in chunks
        )
        return {key: score for part in parts for key, score in part.items()}

    async def _chunk(
        self, pairs: Pairs, options: ScoreOptions, until: Deadline, keys: Sequence[bytes]
    ) -> dict[bytes, Score]:
        documents = [pairs.by_key[key] for key in keys]
        ask = partial(self._backends[pairs.name].score, pairs.query, documents, options)
        with tracing.span("score", "client", documents=len(documents)):
            scores: list[Score] = await self._answer(pairs.name, ask, until)
        if len(scores) != len(keys):
            raise ScoringFailed(
                f"the model {pairs.name!r} gave {len(scores)} of {len(keys)} scores"
            )
        found = dict(zip(keys, scores, strict=True))
        if not options.explain:
            self._store.put_many(found)
        return found
