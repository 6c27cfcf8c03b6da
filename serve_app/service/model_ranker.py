"""Ranking by one model, or by its fallback if the model fails."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace

from models.concurrency import in_thread_if
from models.text import normalize, well_formed
from serve_app.errors import REPLACEABLE, DocumentTooLong, InvalidRequest, RerankError
from serve_app.service.capabilities import check, supported
from serve_app.service.images import ImageFetcher, RequestImages
from serve_app.service.ranking import (
    LARGE_CHARS,
    document_keys,
    query_keys,
    rank_documents,
)
from serve_app.service.relevant_spans import Sentences
from serve_app.service.retries import RetryingModel
from serve_app.service.scoring import Found, Pairs, Scoring
from serve_app.telemetry import Telemetry
from serve_app.types import RerankRequest, RerankResult

logger = logging.getLogger("ray.serve")


class Fallbacks:
    """The fallback of each model or pipeline that has one."""

    def __init__(self, by_name: Mapping[str, str], telemetry: Telemetry) -> None:
        self._by_name = by_name
        self._telemetry = telemetry

    def after(self, name: str, failure: RerankError) -> str:
        """Return the fallback of `name`, which has failed. Raises the failure if it has none."""
        fallback = self._by_name.get(name)
        if fallback is None:
            raise failure
        logger.warning("model %s failed, falling back to %s: %s", name, fallback, failure.message)
        self._telemetry.record_fallback(name)
        return fallback


class ModelRanker:
    """Ranks requests by a single model."""

    def __init__(
        self,
        models: Mapping[str, RetryingModel],
        scoring: Scoring,
        fallbacks: Fallbacks,
        telemetry: Telemetry,
        images: ImageFetcher,
    ) -> None:
        self._models = models
        self._scoring = scoring
        self._fallbacks = fallbacks
        self._telemetry = telemetry
        self._images = images

    async def rank(self, name: str, request: RerankRequest) -> RerankResult:
        """Rank by the model, or by its fallback when it fails. Raises a RerankError.

        The result's `timings_ms` has the answering model's stages, and under `fallback` the time
        spent on models that failed before it.
        """
        async with self._images.request(request) as images:
            return await self._rank_or_fall_back(name, request, images)

    async def _rank_or_fall_back(
        self, name: str, request: RerankRequest, images: RequestImages
    ) -> RerankResult:
        started = time.perf_counter()
        failure: RerankError | None = None
        while True:
            failed_s = time.perf_counter() - started
            try:
                result = await self._rank(name, request, images)
                result = await self.add_spans(result, name, request)
            except REPLACEABLE as error:
                name, failure = self._fallbacks.after(name, error), error
            except InvalidRequest:
                # The fallback does not support what was asked of the model: report the failure.
                if failure is None:
                    raise
                raise failure from None
            else:
                break
        if failure is None:
            return result
        timings = dict(result.timings_ms)
        timings["fallback"] = failed_s * 1000
        timings["total"] += timings["fallback"]
        return replace(result, timings_ms=timings)

    async def add_spans(
        self, result: RerankResult, name: str, request: RerankRequest
    ) -> RerankResult:
        """Add the relevant spans found by the model `name`, if the request asks for them."""
        if (options := request.relevant_spans) is None:
            return result
        sentences = await Sentences.of(result, request)
        if not sentences.places:
            return result
        info = await self._models[name].info()
        request = replace(request, options=supported(request.options, info))
        scored = await self._rank(name, sentences.request(request))
        return await sentences.add_spans(result, scored, options, info)

    async def _rank(
        self, name: str, request: RerankRequest, images: RequestImages | None = None
    ) -> RerankResult:
        started = time.perf_counter()
        model = self._models[name]
        info = await model.info()
        clean = normalize if info.normalize_text else well_formed
        query = await in_thread_if(len(request.query) > LARGE_CHARS, clean, request.query)
        if not query.strip() and request.options.query_image is None:
            raise InvalidRequest(
                "the query is empty once control characters are removed", param="query"
            )
        check(info, request)
        if images is not None:
            request = replace(request, documents=await images.fetch(request.documents))
        keys = await query_keys(info, query, request.options)
        order, by_key = await document_keys(info, keys, request.documents, clean)
        prepare_ms = _ms_since(started)
        pairs = Pairs(model, info, query, order, by_key)
        found = await self._scoring.score(pairs, request)
        return await self._result(name, request, pairs, found, prepare_ms)

    async def _result(
        self, name: str, request: RerankRequest, pairs: Pairs, found: Found, prepare_ms: float
    ) -> RerankResult:
        ranking = time.perf_counter()
        info, order, scores = pairs.info, pairs.order, found.scores
        # Each stage of a large request takes milliseconds: yield to other requests in between.
        await asyncio.sleep(0)
        truncated = tuple(i for i, key in enumerate(order) if scores[key].truncated)
        if truncated and not request.truncate:
            raise DocumentTooLong(
                f"documents[{truncated[0]}] exceeds the maximum length of the model {name!r}",
                param="documents",
            )
        ranked = await rank_documents(info, [scores[key] for key in order], request)
        await asyncio.sleep(0)
        stages_ms = {**found.stages_ms, "rank": _ms_since(ranking)}
        stages_ms["lookup"] += prepare_ms
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
            deduplicated=len(order) - len(pairs.by_key) + found.joined,
        )
        return RerankResult(
            id=str(uuid.uuid4()),
            model=name,
            results=ranked,
            tokens=tokens,
            cached_tokens=cached,
            truncated=truncated,
            passages={i: n for i, key in enumerate(order) if (n := scores[key].passages) > 1},
            timings_ms={**stages_ms, "total": sum(stages_ms.values())},
            requested_model=request.model,
        )


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
