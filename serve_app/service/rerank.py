"""The service: ranks each request by a model or by a pipeline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from serve_app.errors import NO_ANSWER, REPLACEABLE, InvalidRequest, RerankError
from serve_app.pipeline_spec import UNNAMED, Pipeline
from serve_app.service.admission import Admission
from serve_app.service.cache import ScoreStore
from serve_app.service.catalog import Catalog
from serve_app.service.deadline import within
from serve_app.service.images import ImageFetcher
from serve_app.service.model_ranker import Fallbacks, ModelRanker
from serve_app.service.pipelines.run import run
from serve_app.service.pipelines.served_models import ServedModels
from serve_app.service.retries import Replicas, RetryingModel
from serve_app.service.scoring import Scoring
from serve_app.telemetry import Telemetry, request_log
from serve_app.types import RerankRequest, RerankResult


class RerankService:
    """Ranks documents by named models and pipelines that share one score store."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        replicas: Mapping[str, Replicas],
        store: ScoreStore,
        admission: Admission,
        telemetry: Telemetry,
        max_retries: int = 2,
        worker_timeout_s: float = 120.0,
        image_hosts: Iterable[str] = (),
        fallbacks: Mapping[str, str] | None = None,
        pipelines: Mapping[str, Pipeline] | None = None,
    ) -> None:
        """`replicas`: the replicas of each model, by model name.

        `image_hosts`: private hosts that images may be fetched from.
        """
        self.catalog = catalog
        self.pipelines = pipelines or {}
        self._admission = admission
        self._telemetry = telemetry
        self._images = ImageFetcher(admission, image_hosts)
        self._fallbacks = Fallbacks(fallbacks or {}, telemetry)
        models = {
            name: RetryingModel(
                name, own, telemetry, max_retries=max_retries, timeout_s=worker_timeout_s
            )
            for name, own in replicas.items()
        }
        scoring = Scoring(store, admission)
        self._ranker = ModelRanker(models, scoring, self._fallbacks, telemetry, self._images)
        self._served = ServedModels(catalog, self.pipelines, models, admission, self._ranker)

    def overloaded(self) -> RerankError:
        """Return the error for a request refused because too many are in flight."""
        return self._admission.refusal()

    async def close(self) -> None:
        """Close the connections that images are fetched over."""
        await self._images.close()

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Score and rank the documents. Raises a RerankError, whose message is for the client."""
        started = time.perf_counter()
        name, status = "unknown", 200
        stages_ms: Mapping[str, float] = {}
        try:
            name = UNNAMED if request.pipeline else self.catalog.resolve(request.model)
            async with within(request.deadline):
                result = await self._rank(name, request)
            name, stages_ms = result.model, result.timings_ms
            if (observed := request_log.current()) is not None:
                observed.add_counts(
                    documents=len(request.documents),
                    tokens=result.tokens,
                    cached_tokens=result.cached_tokens,
                )
            return result
        except RerankError as error:
            status = error.status
            if error.queued_s is not None:
                stages_ms = {"queue": error.queued_s * 1000}
            raise
        except asyncio.CancelledError:
            status = NO_ANSWER
            raise
        except Exception:
            status = 500
            raise
        finally:
            total = time.perf_counter() - started
            wait_s = stages_ms.get("queue", 0.0) / 1000
            self._telemetry.record_request(request_log.dialect(), name, status, wait_s, total)
            if (observed := request_log.current()) is not None:
                observed.model = name
                observed.add_timings(stages_ms)

    async def _rank(self, name: str, request: RerankRequest) -> RerankResult:
        pipeline = request.pipeline or self.pipelines.get(name)
        if pipeline is not None:
            return await self._rank_by_pipeline(pipeline, name, request)
        if request.budget_ms is not None:
            raise InvalidRequest(
                "budget_ms applies only to pipelines; leave the field out", param="budget_ms"
            )
        return await self._ranker.rank(name, request)

    async def _rank_by_pipeline(
        self, pipeline: Pipeline, name: str, request: RerankRequest
    ) -> RerankResult:
        """Rank by the pipeline, or by the fallback configured for its name if it fails."""
        try:
            return await self._run(pipeline, name, request)
        except REPLACEABLE as error:
            fallback = self._fallbacks.after(name, error)
            if request.budget_ms is not None:
                raise  # a model has no budget
            try:
                return await self._ranker.rank(fallback, request)
            except InvalidRequest:
                # The fallback does not support the request: report the pipeline's failure.
                raise error from None

    async def _run(self, pipeline: Pipeline, name: str, request: RerankRequest) -> RerankResult:
        started = time.perf_counter()
        async with self._images.request(request) as images:
            result = await run(pipeline, name, request, self._served, images, started)
        if pipeline.scorer is None:
            return result
        return await self._ranker.add_spans(result, self._served.single(pipeline.scorer), request)
