"""A request's way to its answer: store, dedupe, scatter, gather, rank. Plain asyncio."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from models.text import normalize, well_formed
from models.types import Document, ModelInfo
from serve_app.errors import (
    NO_ANSWER,
    REPLACEABLE,
    DocumentTooLong,
    InvalidRequest,
    RerankError,
)
from serve_app.service.admission import Admission
from serve_app.service.cache import PairKeys, ScoreStore
from serve_app.service.capabilities import check, taken
from serve_app.service.catalog import Catalog
from serve_app.service.deadline import Deadline, within
from serve_app.service.images import ImageFetcher
from serve_app.service.pipelines import UNNAMED, Pipeline
from serve_app.service.pipelines.run import run
from serve_app.service.pipelines.served_models import Served
from serve_app.service.ranking import keys_of, ranked_by
from serve_app.service.relevant_spans import add_spans
from serve_app.service.retries import Tries
from serve_app.service.scoring import Backend, Pairs, Scoring
from serve_app.telemetry import Telemetry, request_log
from serve_app.types import RerankRequest, RerankResult

logger = logging.getLogger("ray.serve")
T = TypeVar("T")


class RerankService:
    """Ranks documents with named models, over one score store."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        backends: Mapping[str, Backend],
        store: ScoreStore,
        admission: Admission,
        telemetry: Telemetry,
        max_retries: int = 2,
        worker_timeout_s: float = 120.0,
        images: ImageFetcher | None = None,
        fallbacks: Mapping[str, str] | None = None,
        pipelines: Mapping[str, Pipeline] | None = None,
    ) -> None:
        self.catalog = catalog
        self._backends = backends
        self._admission = admission
        self._telemetry = telemetry
        self._tries = Tries(max_retries, worker_timeout_s)
        self._images = images
        self._fallbacks = fallbacks or {}
        self.pipelines = pipelines or {}
        self._scoring = Scoring(store, admission, backends, self._answer)
        self._served = Served(
            catalog, self.pipelines, backends, admission, rank=self._answered, answer=self._answer
        )

    def crowded(self) -> RerankError:
        """The refusal of a request that is not read, since too many are being read already."""
        return self._admission.refusal()

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Score and rank. Raises a RerankError, whose status and message are for the client."""
        started = time.perf_counter()
        timings: dict[str, float] = {}
        name, status = "unknown", 200
        try:
            name = UNNAMED if request.pipeline else self.catalog.resolve(request.model)
            async with within(request.deadline):
                result = await self._answered(name, request, timings, started)
            name = result.model
            if (observed := request_log.current()) is not None:
                observed.add_counts(
                    documents=len(request.documents),
                    tokens=result.tokens,
                    cached_tokens=result.cached_tokens,
                )
            return result
        except RerankError as error:
            status = error.status
            raise
        except asyncio.CancelledError:
            status = NO_ANSWER
            raise
        except Exception:
            status = 500
            raise
        finally:
            total = time.perf_counter() - started
            wait_s = timings.get("queue", 0.0) / 1000
            self._telemetry.record_request(request_log.dialect(), name, status, wait_s, total)
            if (observed := request_log.current()) is not None:
                observed.model = name
                observed.add_timings(timings)

    async def _answered(
        self, name: str, request: RerankRequest, timings: dict[str, float], started: float
    ) -> RerankResult:
        """The model's answer whole, or that of the one named to stand in for it."""
        try:
            return await self._whole(name, request, timings, started)
        except REPLACEABLE as error:
            other = self._fallbacks.get(name)
            if other is None:
                raise
            logger.warning("model %s fails, %s answers: %s", name, other, error.message)
            self._telemetry.record_fallback(name)
            try:
                return await self._answered(other, request, timings, started)
            except InvalidRequest:
                # It can't do what was asked of the first one: that one's failure is the answer.
                raise error from None

    async def _whole(
        self, name: str, request: RerankRequest, timings: dict[str, float], started: float
    ) -> RerankResult:
        """The model's or the pipeline's ranking, with the spans that were asked for."""
        pipeline = request.pipeline or self.pipelines.get(name)
        if pipeline is not None:
            if self._images is not None:
                request = replace(request, documents=await self._images.resolve(request.documents))
            result = await run(pipeline, name, request, self._served, started)
            timings.update(result.timings_ms)
            name = self._served.single(pipeline.scorer) if pipeline.scorer else name
        elif request.budget_ms is not None:
            raise InvalidRequest("budget_ms is for pipelines; leave it out", param="budget_ms")
        else:
            result = await self._rerank(name, request, timings, started)
        if (spans := request.relevant_spans) is None:
            return result
        info = await self._info(name)
        request = replace(request, options=taken(request.options, info))
        rank = partial(self._rerank, name, timings={}, started=time.perf_counter())
        return await add_spans(result, request, spans, info, rank)

    async def _rerank(
        self, name: str, request: RerankRequest, timings: dict[str, float], started: float
    ) -> RerankResult:
        info = await self._info(name)
        clean = normalize if info.normalize_text else well_formed
        query = clean(request.query)
        if not query.strip() and request.options.query_image is None:
            raise InvalidRequest(
                "the query is empty once control characters are removed", param="query"
            )
        check(info, request)
        documents: Sequence[Document] = request.documents
        if self._images is not None:
            documents = await self._images.resolve(documents)
        order, by_key = await keys_of(
            info, PairKeys(info, query, request.options), documents, clean
        )

        timings["lookup"] = _ms_since(started)
        pairs = Pairs(name, info, query, order, by_key)
        found = await self._scoring.of(pairs, request, timings)
        scores, ranking = found.scores, time.perf_counter()
        # Around the stages of a large request others have their turn.
        await asyncio.sleep(0)
        truncated = tuple(i for i, key in enumerate(order) if scores[key].truncated)
        if truncated and not request.truncate:
            raise DocumentTooLong(
                f"document {truncated[0]} is longer than {name!r} reads", param="documents"
            )
        ranked = await ranked_by(info, [scores[key] for key in order], request)
        await asyncio.sleep(0)
        timings["rank"] = _ms_since(ranking)
        timings["total"] = _ms_since(started)
        tokens = sum(scores[key].tokens for key in order)
        cached = sum(found.known[key].tokens for key in order if key in found.known)
        self._telemetry.record_pairs(
            name,
            documents=len(order),
            tokens=tokens,
            cached_tokens=cached,
            hits=len(found.known),
            shared_hits=found.shared,
            misses=len(found.missing),
            deduplicated=len(order) - len(by_key) + found.joined,
        )
        return RerankResult(
            id=str(uuid.uuid4()),
            model=name,
            results=ranked,
            tokens=tokens,
            cached_tokens=cached,
            truncated=truncated,
            passages={i: n for i, key in enumerate(order) if (n := scores[key].passages) > 1},
            timings_ms=timings,
            requested_model=request.model,
        )

    async def _info(self, name: str) -> ModelInfo:
        return await self._answer(name, lambda _: self._backends[name].info(), Deadline())

    async def _answer(self, name: str, call: Callable[[float], Awaitable[T]], until: Deadline) -> T:
        again = partial(self._telemetry.record_model_event, name, "retries")
        return await self._tries.run(name, call, until, again)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
