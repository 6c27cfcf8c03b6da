"""A pipeline's way through its stages: each ranks what the one before it kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from models.concurrency import gather_or_cancel
from models.images import ImageDocument
from models.pipelines import fusion, lexical
from models.types import ModelInfo
from serve_app.errors import REPLACEABLE, InvalidRequest
from serve_app.pipeline_spec import BM25, Fuse, Mmr, Pipeline, Rerank, Threshold
from serve_app.service.pipelines.served_models import Models, check_pipeline, part
from serve_app.service.pipelines.state import Scored, State
from serve_app.types import RerankRequest, RerankResult

# A stage that may run out of time scores this many first, the best ones, then twice as many, and
# so on: what is done when time is up is then always the best candidates.
FIRST_GROUP = 8
# MMR compares each choice with all that are left.
MAX_MMR_DOCUMENTS = 4096


async def run(
    pipeline: Pipeline, name: str, request: RerankRequest, models: Models, started: float
) -> RerankResult:
    """The documents that the stages kept, in the last one's order.

    `started` (time.perf_counter) is when the request came: its budget counts from there. The
    first stage that scores runs to its end whatever that takes. Raises a RerankError.
    """
    await check_pipeline(pipeline, request, models)
    budget = request.budget_ms or pipeline.budget_ms
    runner = _Runner(request, models)
    stopped: str | None = None
    for number, step in enumerate(pipeline.steps):
        state = runner.state
        if stopped is not None:
            # What did not run still bounds how many documents there are.
            state.cut(step.keep)
            continue
        begun = time.perf_counter()
        before = len(state.order)
        if number == 0 or budget is None or isinstance(step, Threshold):
            await runner.step(step, in_groups=False)
        elif not await runner.within(budget / 1000 - (begun - started), step):
            stopped = step.label
            runner.settle(step.label)
        state.cut(step.keep)
        state.report(step.label, before, time.perf_counter() - begun)
        if not state.order:
            break
    warnings = _warning(budget, stopped, runner.reranked) if stopped else ()
    return runner.state.result(name, stopped, warnings, time.perf_counter() - started)


def _warning(budget: int | None, stopped: str, reranked: int) -> tuple[str, ...]:
    done = f"{reranked} documents got its scores" if reranked else "it changed nothing"
    return (f"The budget of {budget} ms was used up in the stage {stopped!r}: {done}.",)


class _Runner:
    """One request's stages, run one at a time."""

    def __init__(self, request: RerankRequest, models: Models) -> None:
        self.state = State(request)
        self._request = request
        self._models = models
        self._found: dict[int, Scored] = {}
        self.reranked = 0

    async def within(self, seconds: float, step: Rerank | Fuse | Mmr | Threshold) -> bool:
        """Run the step; False where time was up before its end."""
        self._found = {}
        if seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self.step(step, in_groups=True)
        except TimeoutError:
            return False
        return True

    def settle(self, label: str) -> None:
        """Put the candidates that the stage had scored when time was up before the others."""
        self.reranked = len(self._found)
        self.state.put_first(label, self._found)

    async def step(self, step: Rerank | Fuse | Mmr | Threshold, *, in_groups: bool) -> None:
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
                    # Another model stood in midway: a stage's scores are one model's.
                    found.clear()
                    result, group = await self._rank(result.model, order), order
                model = result.model
                found |= self.state.take(result, group)
                if len(found) == len(order):
                    break
            info = await self._info(model or step.rerank)
            bounded = info is not None and info.activation != "identity"
        self.state.rank_by(step.label, found, bounded=bounded)
        self._found = {}

    async def _groups(self, model: str, order: Sequence[int]) -> Iterator[Sequence[int]]:
        """The candidates in parts, best first; whole where the model wants them together."""
        info = await self._info(model)
        whole = info is None or info.listwise or info.whole_requests
        return iter([order]) if whole else _growing(order)

    async def _fuse(self, step: Fuse) -> None:
        async def ranking(name: str) -> list[int]:
            if name == BM25:
                scored = await self._bm25()
                # A document that shares no word with the query is in no ranking of words.
                found = {i: score for i, score in scored.items() if score.raw > 0}
            else:
                order = self.state.order
                found = self.state.take(await self._rank(name, order), order)
            return self.state.record(name, found)

        rankings = await gather_or_cancel(ranking(name) for name in step.fuse)
        fused = fusion.rrf(rankings, step.k)
        found = {i: Scored(fused[i], fused[i]) for i in self.state.order}
        self.state.rank_by(step.label, found, bounded=False)

    async def _mmr(self, step: Mmr) -> None:
        # Imported here: they bring numpy, which other requests do without.
        from models.pipelines.diversity import mmr, unit_scale

        order = self.state.order
        if len(order) > MAX_MMR_DOCUMENTS:
            raise InvalidRequest(
                f"mmr orders at most {MAX_MMR_DOCUMENTS} documents and got {len(order)}; "
                "give the stage before it a keep",
                param="pipeline",
            )
        info = await self._models.info(step.mmr)
        vectors = await self._models.embed(step.mmr, part(self._request, order, info))
        scores = [self.state.scored[i].shown for i in order]
        relevance = scores if self.state.bounded else unit_scale(scores)
        count = len(order) if step.keep is None else step.keep
        chosen = await asyncio.to_thread(mmr, relevance, vectors, step.trade, count)
        self.state.choose(step.label, [(order[i], value) for i, value in chosen])

    async def _bm25(self) -> dict[int, Scored]:
        order = self.state.order
        documents = [self._request.documents[i] for i in order]
        texts = [d.text if isinstance(d, ImageDocument) else d for d in documents]
        scores = await asyncio.to_thread(lexical.bm25, self._request.query, texts)
        return {i: Scored(score, score) for i, score in zip(order, scores, strict=True)}

    async def _rank(self, model: str, order: Sequence[int]) -> RerankResult:
        info = await self._info(model)
        return await self._models.rank(model, part(self._request, order, info))

    async def _info(self, model: str) -> ModelInfo | None:
        """None where the model does not answer: its stand-in may."""
        try:
            return await self._models.info(model)
        except REPLACEABLE:
            return None


def _growing(order: Sequence[int]) -> Iterator[Sequence[int]]:
    start, size = 0, FIRST_GROUP
    while start < len(order):
        yield order[start : start + size]
        start, size = start + size, size * 2
