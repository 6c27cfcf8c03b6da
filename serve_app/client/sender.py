"""Jobs sent under the limit of connections, tried again, and counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from serve_app.client import batches
from serve_app.client.errors import copy_of
from serve_app.client.retry import Retry
from serve_app.client.transport import NoRoute, Transport
from serve_app.client.usage import TokenUsageTracker
from serve_app.client.wire import Answer, Job
from serve_app.client.wire_many import Outcome
from serve_app.errors import RerankError

T = TypeVar("T")
# Of a body that is wrong or too large as a whole: its queries may each be right.
_TOGETHER = frozenset({400, 413, 422})


class Sender:
    """Sends jobs by one transport, `max_connections` requests at once."""

    def __init__(
        self,
        transport: Transport,
        *,
        max_connections: int,
        retry: Retry,
        tracker: TokenUsageTracker,
        tool: str,
    ) -> None:
        self._transport = transport
        self._gate = asyncio.Semaphore(max_connections)
        self._retry = retry
        self._tracker = tracker
        self._tool = tool

    @property
    def takes_many(self) -> bool:
        """Whether several queries may go in one request."""
        return self._transport.takes_many

    async def send(
        self,
        packs: Sequence[Sequence[Job]],
        *,
        raises: bool,
        track: bool,
        advance: Callable[[int], None],
    ) -> list[tuple[Job, Outcome]]:
        """Each job's outcome, in order; the jobs of a pack go in one request.

        `raises`: the first error is raised, and the rest is cancelled. `advance` is told of
        documents that are done. Errors have a note of which documents they concern.
        """

        async def one(pack: Sequence[Job]) -> list[tuple[Job, Outcome]]:
            outcomes = await self._pack(pack, track)
            advance(sum(len(job.documents) for job in pack))
            for job, outcome in zip(pack, outcomes, strict=True):
                if isinstance(outcome, RerankError):
                    outcome.add_note(_where(job))
                    if raises:
                        raise outcome
            return list(zip(pack, outcomes, strict=True))

        done = await gather(one(pack) for pack in packs)
        return [outcome for pack in done for outcome in pack]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _pack(self, jobs: Sequence[Job], track: bool) -> list[Outcome]:
        if len(jobs) > 1 and self.takes_many:
            try:
                return await self._tried(jobs, self._together, track)
            except NoRoute:
                pass
            except RerankError as error:
                if error.status not in _TOGETHER:
                    return [copy_of(error) for _ in jobs]
        alone = await gather(self._tried([job], self._alone, track) for job in jobs)
        return [outcome for (outcome,) in alone]

    async def _together(self, jobs: Sequence[Job]) -> list[Outcome]:
        return await self._transport.send_many(jobs)

    async def _alone(self, jobs: Sequence[Job]) -> list[Outcome]:
        try:
            return [await self._transport.send(jobs[0])]
        except RerankError as error:
            return [error]

    async def _tried(
        self,
        jobs: Sequence[Job],
        send: Callable[[Sequence[Job]], Coroutine[Any, Any, list[Outcome]]],
        track: bool,
    ) -> list[Outcome]:
        """The jobs' outcomes; those that failed are tried again where that may help.

        Raises the error of a request that failed as a whole, and NoRoute.
        """
        outcomes: dict[int, Outcome] = {}
        waiting = list(range(len(jobs)))
        tried = 0
        # The slot is kept through the pauses: a server that is full gets no more meanwhile.
        async with self._gate:
            while waiting:
                pauses: dict[int, float] = {}
                tried += 1
                try:
                    found = await send([jobs[i] for i in waiting])
                except RerankError as error:
                    pause = self._retry.pause(tried, error)
                    if pause is None and len(waiting) == len(jobs):
                        raise
                    found = [copy_of(error) for _ in waiting]
                if track:
                    self._count(found, [jobs[i] for i in waiting])
                for i, outcome in zip(waiting, found, strict=True):
                    outcomes[i] = outcome
                    if isinstance(outcome, RerankError):
                        pause = self._retry.pause(tried, outcome)
                        if pause is not None:
                            pauses[i] = pause
                waiting = list(pauses)
                if pauses:
                    await asyncio.sleep(max(pauses.values()))
        return [outcomes[i] for i in range(len(jobs))]

    def _count(self, found: Sequence[Outcome], jobs: Sequence[Job]) -> None:
        """One request's tokens, by the model that answered."""
        tokens: Counter[str] = Counter()
        for outcome, job in zip(found, jobs, strict=True):
            if isinstance(outcome, Answer):
                tokens[outcome.model or job.model or "default"] += outcome.tokens
        for model, number in tokens.items():
            self._tracker.record(self._tool, model, number)


def _where(job: Job) -> str:
    failed = batches.indices(job)
    where = f"documents {failed.start} to {failed.stop - 1}"
    return where if job.place is None else f"{where} of query {job.place}"


async def gather(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results in order; the first error, once the others are cancelled.

    As `models.concurrency`, which the client does without: it stands alone.
    """
    # No TaskGroup: before Python 3.11.9 one that fails leaves its task marked as cancelled,
    # which breaks callers that run on anyio.
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
