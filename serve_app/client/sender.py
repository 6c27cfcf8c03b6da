"""Send batches: limit connections, retry failures, count tokens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from models.concurrency import gather_or_cancel
from serve_app.client.batches import indices
from serve_app.client.errors import copy_error
from serve_app.client.retry import Retry
from serve_app.client.transport import NoBatchRoute, Transport
from serve_app.client.usage import TokenUsageTracker
from serve_app.client.wire import Answer, Batch
from serve_app.client.wire_many import Outcome
from serve_app.errors import RerankError

T = TypeVar("T")
# The request as a whole was invalid or too large; its queries may succeed one at a time.
_RETRY_SEPARATELY = frozenset({400, 413, 422})


class Sender:
    """Sends batches over one transport, with at most `max_connections` requests at a time."""

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
        self._slots = asyncio.Semaphore(max_connections)
        self._retry = retry
        self._tracker = tracker
        self._tool = tool

    @property
    def takes_many(self) -> bool:
        """Whether several queries can go in one request."""
        return self._transport.takes_many

    async def send(
        self,
        requests: Sequence[Sequence[Batch]],
        *,
        raises: bool,
        track: bool,
        advance: Callable[[int], None],
    ) -> list[tuple[Batch, Outcome]]:
        """Send each group of batches in one request; return each batch's outcome, in order.

        With `raises`, the first error is raised and the other requests are cancelled. `advance`
        is called with the number of documents done. Errors carry a note that says which
        documents they concern.
        """

        async def one(batches: Sequence[Batch]) -> list[tuple[Batch, Outcome]]:
            outcomes = await self._send_request(batches, track)
            advance(sum(len(batch.documents) for batch in batches))
            for batch, outcome in zip(batches, outcomes, strict=True):
                if isinstance(outcome, RerankError):
                    outcome.add_note(_note(batch))
                    if raises:
                        raise outcome
            return list(zip(batches, outcomes, strict=True))

        done = await gather_or_cancel(one(batches) for batches in requests)
        return [outcome for outcomes in done for outcome in outcomes]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _send_request(self, batches: Sequence[Batch], track: bool) -> list[Outcome]:
        if len(batches) > 1 and self.takes_many:
            try:
                return await self._send_with_retries(batches, self._transport.send_many, track)
            except NoBatchRoute:
                pass
            except RerankError as error:
                if error.status not in _RETRY_SEPARATELY:
                    return [copy_error(error) for _ in batches]
        separately = await gather_or_cancel(
            self._send_with_retries([batch], self._send_one, track) for batch in batches
        )
        return [outcome for (outcome,) in separately]

    async def _send_one(self, batches: Sequence[Batch]) -> list[Outcome]:
        try:
            return [await self._transport.send(batches[0])]
        except RerankError as error:
            return [error]

    async def _send_with_retries(
        self,
        batches: Sequence[Batch],
        send: Callable[[Sequence[Batch]], Coroutine[Any, Any, list[Outcome]]],
        track: bool,
    ) -> list[Outcome]:
        """Send the batches, and send those that failed again if a retry may help.

        Raises NoBatchRoute, and the error of a request that failed as a whole.
        """
        outcomes: dict[int, Outcome] = {}
        pending = list(range(len(batches)))
        attempts = 0
        # The slot stays taken during pauses, so that an overloaded server gets no extra requests.
        async with self._slots:
            while pending:
                pauses: dict[int, float] = {}
                attempts += 1
                try:
                    found = await send([batches[i] for i in pending])
                except RerankError as error:
                    pause = self._retry.pause(attempts, error)
                    if pause is None and len(pending) == len(batches):
                        raise
                    found = [copy_error(error) for _ in pending]
                if track:
                    self._count(found, [batches[i] for i in pending])
                for i, outcome in zip(pending, found, strict=True):
                    outcomes[i] = outcome
                    if isinstance(outcome, RerankError):
                        pause = self._retry.pause(attempts, outcome)
                        if pause is not None:
                            pauses[i] = pause
                pending = list(pauses)
                if pauses:
                    await asyncio.sleep(max(pauses.values()))
        return [outcomes[i] for i in range(len(batches))]

    def _count(self, outcomes: Sequence[Outcome], batches: Sequence[Batch]) -> None:
        """Record one request's tokens under the model that scored them."""
        tokens: Counter[str] = Counter()
        for outcome, batch in zip(outcomes, batches, strict=True):
            if isinstance(outcome, Answer):
                tokens[outcome.model or batch.model or "default"] += outcome.tokens
        for model, number in tokens.items():
            self._tracker.record(self._tool, model, number)


def _note(batch: Batch) -> str:
    failed = indices(batch)
    note = f"documents {failed.start} to {failed.stop - 1}"
    return note if batch.query_index is None else f"{note} of query {batch.query_index}"
