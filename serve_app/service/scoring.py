"""Scores for one request's pairs: look them up, score the misses in chunks, keep the results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from models.concurrency import gather_or_cancel, yielding
from models.types import Document, ModelInfo, Score, ScoreOptions
from serve_app.service.admission import Admission
from serve_app.service.cache import ScoreStore, SingleFlight
from serve_app.service.chunking import cut
from serve_app.service.deadline import Deadline
from serve_app.service.retries import OtherRevision, RetryingModel
from serve_app.telemetry import scored, tracing
from serve_app.types import RerankRequest

LOOKUP_KEYS = 64
# Calls of one request at the same time: enough to keep several replicas busy. A replica that
# received thousands at once would be busy with reading them while others wait.
PARALLEL_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class Pairs:
    """A query and its documents by key; `order` has the keys in the order of the documents."""

    model: RetryingModel
    info: ModelInfo
    query: str
    order: Sequence[bytes]
    by_key: Mapping[bytes, Document]

    @property
    def listwise(self) -> bool:
        return self.info.listwise


@dataclass(slots=True)
class Found:
    """Scores by key, and where they came from.

    `known`: scores found in the store, `shared` of them only in the shared store. `fresh`: scores
    of the `missing` keys, `joined` of which another request was already scoring. `stages_ms`:
    milliseconds of the stages `lookup`, `queue` and `score` that ran.
    """

    known: dict[bytes, Score]
    shared: int
    missing: Sequence[bytes]
    fresh: dict[bytes, Score] = field(default_factory=dict)
    joined: int = 0
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def scores(self) -> dict[bytes, Score]:
        return self.known | self.fresh


class Scoring:
    """Scores pairs through the score store; concurrent requests score a pair only once."""

    def __init__(self, store: ScoreStore, admission: Admission) -> None:
        self._store = store
        self._admission = admission
        self._flights = SingleFlight()

    async def score(self, pairs: Pairs, request: RerankRequest) -> Found:
        """Return every pair's score. Raises a RerankError."""
        completed, started = self._flights.completed, time.perf_counter()
        # Explanations are not stored: they would take more memory than the scores.
        kept = not request.options.explain
        found = (
            await self._look_up(list(pairs.by_key)) if kept else Found({}, 0, list(pairs.by_key))
        )
        if pairs.listwise and found.missing:
            # A listwise score is invalid without the others: score all of them again.
            found = Found({}, 0, pairs.order)
        lookup_s = time.perf_counter() - started
        stages_ms = {"lookup": lookup_s * 1000}
        tracing.record_span("lookup", lookup_s, hits=len(found.known), misses=len(found.missing))
        if found.missing:
            async with self._admission.slot(request.priority) as queue_s:
                stages_ms["queue"] = queue_s * 1000
                tracing.record_span("queue", queue_s)
                if self._flights.completed != completed and kept and not pairs.listwise:
                    # Scores of other requests arrived while this one waited: use them.
                    late = await self._look_up(found.missing)
                    found = Found(
                        found.known | late.known, found.shared + late.shared, late.missing
                    )
                scoring = time.perf_counter()
                make = partial(self._score_missing, pairs, request.options)
                found.fresh, found.joined = await self._flights.run(
                    found.missing, make, request.deadline
                )
            stages_ms["score"] = (time.perf_counter() - scoring) * 1000
        found.stages_ms = stages_ms
        return found

    async def _look_up(self, keys: Sequence[bytes]) -> Found:
        """Look up keys in this process's memory, then in the shared store."""
        known: dict[bytes, Score] = {}
        async for start in yielding(range(0, len(keys), LOOKUP_KEYS)):
            known.update(self._store.get_many(keys[start : start + LOOKUP_KEYS]))
        missing = [key for key in keys if key not in known]
        shared = await self._store.fetch(missing) if missing else {}
        missing = [key for key in missing if key not in shared]
        return Found(known | shared, len(shared), missing)

    async def _score_missing(
        self, pairs: Pairs, options: ScoreOptions, keys: Sequence[bytes], until: Deadline
    ) -> dict[bytes, Score]:
        """Score the missing keys. Scores that are stored are computed by one server at a time."""
        score = partial(self._score_in_chunks, pairs, options, until)
        if options.explain:
            return await score(keys)
        return await self._store.score_once(keys, score=score, all_or_none=pairs.listwise)

    async def _score_in_chunks(
        self, pairs: Pairs, options: ScoreOptions, until: Deadline, keys: Sequence[bytes]
    ) -> dict[bytes, Score]:
        texts = {key: pairs.by_key[key] for key in keys}
        whole = pairs.listwise or pairs.info.whole_requests
        chunks = [list(texts)] if whole else cut(texts, pairs.info.token_budget)
        remaining = iter(chunks)

        async def work() -> dict[bytes, Score]:
            found: dict[bytes, Score] = {}
            for chunk in remaining:
                found |= await self._score_chunk(pairs, options, until, chunk)
            return found

        parts = await gather_or_cancel(work() for _ in chunks[:PARALLEL_CHUNKS])
        return {key: score for part in parts for key, score in part.items()}

    async def _score_chunk(
        self, pairs: Pairs, options: ScoreOptions, until: Deadline, keys: Sequence[bytes]
    ) -> dict[bytes, Score]:
        documents = [pairs.by_key[key] for key in keys]
        with (
            tracing.span("score", "client", documents=len(documents)),
            scored.chunk(pairs.query, documents, options.max_tokens_per_doc) as work,
        ):
            scores = await pairs.model.score(pairs.query, documents, options, until)
            work.done += sum(score.tokens for score in scores)
        found = dict(zip(keys, scores, strict=True))
        # While a model is replaced, replicas of both revisions may answer.
        known = (await pairs.model.info()).revision == pairs.info.revision
        if known and not options.explain and not isinstance(scores, OtherRevision):
            self._store.put_many(found)
        return found
