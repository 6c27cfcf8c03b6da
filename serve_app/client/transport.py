"""The ways to a reranker: HTTP, and a Ray DeploymentHandle."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import httpx

from serve_app.client import wire, wire_many
from serve_app.client.arguments import base_url, one_of
from serve_app.client.errors import TookTooLong, Unreachable, from_response
from serve_app.client.results import StageScore
from serve_app.client.spans import Span
from serve_app.errors import RerankError

# A route that is not there, or takes no such request.
_NO_ROUTE = frozenset({404, 405, 501})


class NoRoute(Exception):
    """The server takes no several queries at once."""


class Transport(Protocol):
    """Sends one batch, once; where `takes_many`, also several queries in one request."""

    takes_many: bool

    async def send(self, job: wire.Job) -> wire.Answer:
        """The batch's scores. Raises a RerankError."""
        ...

    async def send_many(self, jobs: Sequence[wire.Job]) -> list[wire_many.Outcome]:
        """An outcome for each job. Raises a RerankError of them all, or NoRoute."""
        ...

    async def aclose(self) -> None: ...


class Http:
    """A rerank route over HTTP, on one pool of connections."""

    def __init__(
        self,
        url: str,
        *,
        dialect: wire.DialectName,
        api_key: str | None,
        headers: Mapping[str, str] | None,
        extra_body: Mapping[str, Any] | None,
        timeout_s: float,
        connect_timeout_s: float,
        max_connections: int,
        http2: bool | None,
        client: httpx.AsyncClient | None,
    ) -> None:
        one_of(dialect, wire.WIRES, "dialect")
        self._url = route(base_url(url))
        self._host = httpx.URL(self._url).netloc.decode() or self._url
        self._wire = wire.WIRES[dialect]
        self.takes_many = dialect == "native"
        self._extra = dict(extra_body or {})
        self._timeout_s = timeout_s
        self._headers = {"content-type": "application/json", **(headers or {})}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._owned = client is None
        self._client = client or httpx.AsyncClient(
            # TLS negotiates the version: asking for 2 where it can be had costs nothing.
            http2=_has_h2() if http2 is None else http2,
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s, pool=None),
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
        )

    async def send(self, job: wire.Job) -> wire.Answer:
        answer = await self._post(self._url, wire.encode(job, self._wire, self._extra))
        self._check(answer)
        return wire.decode(answer.content, job, self._host)

    async def send_many(self, jobs: Sequence[wire.Job]) -> list[wire_many.Outcome]:
        answer = await self._post(f"{self._url}/batch", wire_many.encode(jobs, self._extra))
        if answer.status_code in _NO_ROUTE:
            self.takes_many = False
            raise NoRoute
        self._check(answer)
        return wire_many.decode(answer.content, jobs, self._host)

    async def _post(self, url: str, content: bytes) -> httpx.Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.post(url, content=content, headers=self._headers)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise TookTooLong(
                f"{self._host} did not answer in time ({self._timeout_s:g} s); raise timeout_s "
                "or lower batch_size"
            ) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self._host} can't be reached: {reason}") from error

    def _check(self, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            raise from_response(answer.status_code, answer.content, answer.headers, self._host)

    async def aclose(self) -> None:
        if self._owned:
            await self._client.aclose()


class Handle:
    """The service's Ray DeploymentHandle, or anything whose `rerank.remote` is awaited."""

    # A call by handle has no HTTP to save: each query is a call of its own.
    takes_many = False

    def __init__(self, handle: Any, *, timeout_s: float, extra: Mapping[str, Any] | None) -> None:
        self._handle = handle
        self._extra = dict(extra or {})
        self._timeout_s = timeout_s

    async def send(self, job: wire.Job) -> wire.Answer:
        fields = {**job.fields, **self._extra}
        if job.top_k is not None:
            fields["top_n"] = job.top_k
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await self._handle.rerank.remote(job.query, job.documents, **fields)
        except TimeoutError as error:
            raise TookTooLong(f"the handle gave no answer within {self._timeout_s:g} s") from error
        except Exception as error:
            # Ray wraps what a replica raises, and has exceptions of its own for a lost one.
            cause = getattr(error, "cause", error)
            if isinstance(cause, RerankError):
                raise cause from None
            raise Unreachable(f"the handle's call failed: {error!r}") from error
        answer = wire.Answer(
            scores=[(hit.index, hit.relevance_score) for hit in result.results],
            model=result.model,
            tokens=result.tokens,
            warnings=(*_warnings(result.truncated), *getattr(result, "warnings", ())),
            spans={hit.index: _spans(hit) for hit in result.results if hit.relevant_spans},
            # A service of an earlier release has no pipelines.
            stages={hit.index: own for hit in result.results if (own := _stages(hit))},
            by_pipeline=getattr(result, "pipeline", None) is not None,
        )
        wire.check(answer, job, "the handle")
        return answer

    async def send_many(self, jobs: Sequence[wire.Job]) -> list[wire_many.Outcome]:
        raise NoRoute

    async def aclose(self) -> None:
        return None


def route(url: str) -> str:
    """The rerank route of a base URL, which may name the route itself."""
    url = url.rstrip("/")
    last = url.rpartition("/")[2]
    return url if last in ("rerank", "reranking") else f"{url}/rerank"


def _spans(hit: Any) -> tuple[Span, ...]:
    return tuple(Span(span.start, span.end, span.score) for span in hit.relevant_spans)


def _stages(hit: Any) -> dict[str, StageScore]:
    stages = getattr(hit, "stages", {})
    return {name: StageScore(stage.score, stage.rank) for name, stage in stages.items()}


def _warnings(truncated: tuple[int, ...]) -> tuple[str, ...]:
    if not truncated:
        return ()
    return (f"{len(truncated)} of the documents were longer than the model reads and were cut.",)


def _has_h2() -> bool:
    return find_spec("h2") is not None
