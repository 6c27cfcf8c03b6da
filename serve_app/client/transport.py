"""How batches reach a reranker: the transport interface, and calls through a Ray handle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from serve_app.client import wire
from serve_app.client.errors import TookTooLong, Unreachable
from serve_app.client.results import StageScore
from serve_app.client.spans import Span
from serve_app.client.wire_many import Outcome
from serve_app.errors import RerankError


class NoBatchRoute(Exception):
    """The server has no route that takes several queries in one request."""


class Transport(Protocol):
    """Sends one batch, once; with `takes_many`, also several queries in one request."""

    takes_many: bool

    async def send(self, batch: wire.Batch) -> wire.Answer:
        """Return the batch's scores. Raises a RerankError."""
        ...

    async def send_many(self, batches: Sequence[wire.Batch]) -> list[Outcome]:
        """Return an outcome for each batch.

        Raises a RerankError if the whole request failed, or NoBatchRoute.
        """
        ...

    async def aclose(self) -> None: ...


class Handle:
    """The service's Ray DeploymentHandle, or any object with an awaitable `rerank.remote`."""

    # Combining queries would save HTTP requests, which a handle does not make.
    takes_many = False

    def __init__(self, handle: Any, *, timeout_s: float, extra: Mapping[str, Any] | None) -> None:
        self._handle = handle
        self._extra = dict(extra or {})
        self._timeout_s = timeout_s

    async def send(self, batch: wire.Batch) -> wire.Answer:
        fields = {**batch.fields, **self._extra}
        if batch.top_k is not None:
            fields["top_n"] = batch.top_k
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._handle.rerank.remote(batch.query, batch.documents, **fields)
        except TimeoutError as error:
            raise TookTooLong(
                f"the Ray handle did not respond within {self._timeout_s:g} s"
            ) from error
        except Exception as error:
            # Ray wraps what a replica raises, and raises its own exceptions for a lost replica.
            cause = getattr(error, "cause", error)
            if isinstance(cause, RerankError):
                raise cause from None
            raise Unreachable(f"the call through the Ray handle failed: {error!r}") from error
        answer = wire.Answer(
            scores=[(hit.index, hit.relevance_score) for hit in result.results],
            model=result.model,
            tokens=result.tokens,
            warnings=(*_warnings(result.truncated), *getattr(result, "warnings", ())),
            spans={hit.index: _spans(hit) for hit in result.results if hit.relevant_spans},
            # Earlier releases of the service have no pipelines.
            stages={hit.index: own for hit in result.results if (own := _stages(hit))},
            by_pipeline=getattr(result, "pipeline", None) is not None,
        )
        wire.check(answer, batch, "the Ray handle")
        return answer

    async def send_many(self, batches: Sequence[wire.Batch]) -> list[Outcome]:
        raise NoBatchRoute

    async def aclose(self) -> None:
        return None


def _spans(hit: Any) -> tuple[Span, ...]:
    return tuple(Span(span.start, span.end, span.score) for span in hit.relevant_spans)


def _stages(hit: Any) -> dict[str, StageScore]:
    stages = getattr(hit, "stages", {})
    return {name: StageScore(stage.score, stage.rank) for name, stage in stages.items()}


def _warnings(truncated: tuple[int, ...]) -> tuple[str, ...]:
    if not truncated:
        return ()
    return (
        f"{len(truncated)} of the documents were longer than the model's maximum and were "
        "truncated.",
    )
