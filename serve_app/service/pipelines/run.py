"""Running a pipeline: each stage ranks the documents kept by the one before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from models.concurrency import gather_or_cancel
from models.images import ImageDocument
from models.pipelines import fusion, lexical
from models.types import ModelInfo
from serve_app.errors import REPLACEABLE, InvalidRequest
from serve_app.pipeline_spec import BM25, Fuse, Mmr, Pipeline, Rerank, Threshold
from serve_app.service.images import RequestImages
from serve_app.service.pipelines.served_models import ServedModels, check_pipeline, stage_request
from serve_app.service.pipelines.state import Scored, State
from serve_app.types import RerankRequest, RerankResult

# With a budget, a stage first scores this many of the best candidates, then twice as many, and so
# on, so that the best candidates are scored if time runs out.
FIRST_GROUP = 8
# MMR compares each chosen document with all remaining ones.
MAX_MMR_DOCUMENTS = 4096


async def run(
    pipeline: Pipeline,
    name: str,
    request: RerankRequest,
    models: ServedModels,
    images: RequestImages,
    started: float,
) -> RerankResult:
    """Return the documents kept by all stages, in the order of the last one.

    `started`: arrival of the request by time.perf_counter; the budget counts from there. The
    first stage always runs to its end. Raises a RerankError.
    """
    await check_pipeline(pipeline, request, models)
    budget = request.budget_ms or pipeline.budget_ms
    runner = _Runner(request, models, images)
    stopped: str | None = None
    for number, step in enumerate(pipeline.steps):
        state = runner.state
        if stopped is not None:
            # Stages that did not run still limit the number of documents.
            state.cut(step.keep)
            continue
        begun = time.perf_counter()
        before = len(state.order)
        if number == 0 or budget is None or isinstance(step, Threshold):
            await runner.run_step(step, in_groups=False)
        elif not await runner.run_within(budget / 1000 - (begun - started), step):
            stopped = step.label
            runner.apply_partial_scores(step.label)
        state.cut(step.keep)
        state.report(step.label, before, time.perf_counter() - begun)
        if not state.order:
            break
    warnings = _warning(budget, stopped, runner.reranked) if stopped else ()
    return runner.state.result(name, stopped, warnings, time.perf_counter() - started)


def _warning(budget: int | None, stopped: str, reranked: int) -> tuple[str, ...]:
    done = f"it scored {reranked} documents" if reranked else "it had no effect"
    return (f"The budget of {budget} ms ran out in the stage {stopped!r}: {done}.",)


class _Runner:
    """Runs the stages of one request, one at a time."""

    def __init__(self, request: RerankRequest, models: ServedModels, images: RequestImages) -> None:
        self.state = State(request)
        self._request = request
        self._models = models
        self._images = images
        self._found: dict[int, Scored] = {}
        self.reranked = 0

    async def run_within(self, seconds: float, step: Rerank | Fuse | Mmr | Threshold) -> bool:
        """Run the step. Returns False if time ran out before its end."""
        self._found = {}
        if seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self.run_step(step, in_groups=True)
        except TimeoutError:
            return False
        return True

    def apply_partial_scores(self, label: str) -> None:
        """Put the candidates that the interrupted stage had scored before the others."""
        self.reranked = len(self._found)
        self.state.put_first(label, self._found)

    async def run_step(self, step: Rerank | Fuse | Mmr | Threshold, *, in_groups: bool) -> None:
        match step:
            case Rerank():
                await self._rerank(step, in_groups)
            case Fuse():
                await self._fuse(step)
            case Mmr():
                await self._mmr(step)
            case Threshold():
                self.state.drop_below(step.threshold)

    async def _rerank(self, step: Rerank, in_groups: bool) -> None:
        order = self.state.order
        found: dict[int, Scored] = {}
        self._found = found
        bounded = False
        if step.rerank == BM25:
            found |= await self._bm25()
        else:
            model: str | None = None
            groups = await self._groups(step.rerank, order) if in_groups else [order]
            for group in groups:
                result = await self._rank(step.rerank, group)
                if model not in (None, result.model):
                    # A fallback took over midway: all scores of a stage come from one model.
                    found.clear()
                    result, group = await self._rank(result.model, order), order
                model = result.model
                found |= self.state.add_result(result, group)
                if len(found) == len(order):
                    break
            info = await self._info(model or step.rerank)
            bounded = info is not None and info.activation != "identity"
        self.state.order_by(step.label, found, bounded=bounded)
        self._found = {}

    async def _groups(self, model: str, order: Sequence[int]) -> Iterator[Sequence[int]]:
        """Split the candidates into groups, best first; one group if the model needs them all."""
        info = await self._info(model)
        single = info is None or info.listwise or info.whole_requests
        return iter([order]) if single else _doubling_groups(order)

    async def _fuse(self, step: Fuse) -> None:
        async def ranking(name: str) -> list[int]:
            if name == BM25:
                scored = await self._bm25()
                # Documents that share no word with the query are not in the BM25 ranking.
                found = {i: score for i, score in scored.items() if score.raw > 0}
            else:
                order = self.state.order
                found = self.state.add_result(await self._rank(name, order), order)
            return self.state.record_ranking(name, found)

        rankings = await gather_or_cancel(ranking(name) for name in step.fuse)
        fused = fusion.rrf(rankings, step.k)
        found = {i: Scored(fused[i], fused[i]) for i in self.state.order}
        self.state.order_by(step.label, found, bounded=False)

    async def _mmr(self, step: Mmr) -> None:
        # Imported here because only mmr needs numpy.
        from models.pipelines.diversity import mmr, unit_scale

        order = self.state.order
        if len(order) > MAX_MMR_DOCUMENTS:
            raise InvalidRequest(
                f"mmr supports at most {MAX_MMR_DOCUMENTS} documents and got {len(order)}; "
                "set keep on the stage before it",
                param="pipeline",
            )
        info = await self._models.info(step.mmr)
        vectors = await self._models.embed(step.mmr, await self._stage_request(order, info))
        scores = [self.state.scored[i].shown for i in order]
        relevance = scores if self.state.bounded else unit_scale(scores)
        count = len(order) if step.keep is None else step.keep
        chosen = await asyncio.to_thread(mmr, relevance, vectors, step.trade, count)
        self.state.set_order(step.label, [(order[i], value) for i, value in chosen])

    async def _bm25(self) -> dict[int, Scored]:
        order = self.state.order
        documents = [self._request.documents[i] for i in order]
        texts = [d.text if isinstance(d, ImageDocument) else d for d in documents]
        scores = await asyncio.to_thread(lexical.bm25, self._request.query, texts)
        return {i: Scored(score, score) for i, score in zip(order, scores, strict=True)}

    async def _rank(self, model: str, order: Sequence[int]) -> RerankResult:
        info = await self._info(model)
        return await self._models.rank(model, await self._stage_request(order, info))

    async def _stage_request(self, order: Sequence[int], info: ModelInfo | None) -> RerankRequest:
        """Return the request for one stage; images are fetched if its model reads them."""
        request = stage_request(self._request, order, info)
        if info is None or not info.takes_images:
            return request
        return replace(request, documents=await self._images.fetch(request.documents, order))

    async def _info(self, model: str) -> ModelInfo | None:
        """Return None if the model is unavailable: its fallback may still answer."""
        try:
            return await self._models.info(model)
        except REPLACEABLE:
            return None


def _doubling_groups(order: Sequence[int]) -> Iterator[Sequence[int]]:
    start, size = 0, FIRST_GROUP
    while start < len(order):
        yield order[start : start + size]
        start, size = start + size, size * 2
