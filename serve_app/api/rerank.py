"""A scoring request over HTTP: read the body, choose a dialect, rank, write the response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from serve_app.access import Visit
from serve_app.api import compression
from serve_app.api.dialects import read_json
from serve_app.api.dialects.base import Limits, ManyDialect, Outcome, Query, Wire
from serve_app.api.dialects.routes import Rule
from serve_app.api.request_body import Body
from serve_app.api.responses import JSON, Frontend, error_response, id_header, request_id_of
from serve_app.api.timeout_headers import timeout_s
from serve_app.errors import NO_ANSWER, RerankError, ShuttingDown
from serve_app.service.deadline import Deadline
from serve_app.telemetry import request_log
from serve_app.types import RerankRequest, RerankResult

# Queries of one batch that are ranked in parallel, so that a batch cannot fill the queue.
MAX_PARALLEL = 4
# Responses with at least this many results are rendered in a thread. For fewer, switching threads
# costs more than it saves.
THREAD_RESULTS = 2_000


class Ranker(Protocol):
    """Ranks requests: the RerankService."""

    async def rerank(self, request: RerankRequest) -> RerankResult: ...


async def score(front: Frontend, rule: Rule, request: Request) -> Response:
    """Respond to a POST to one of the scoring routes. Errors become responses too."""
    with front.bodies.body() as body:
        return await _score(front, rule, request, body)


async def _score(front: Frontend, rule: Rule, request: Request, body: Body) -> Response:
    started = time.perf_counter()
    request_id = request_id_of(request)
    dialect = rule.otherwise
    request_log.note_dialect(dialect.name)
    try:
        if front.closing:
            raise ShuttingDown("the service is shutting down; send the request to another instance")
        if front.bodies.served >= front.max_in_flight:
            raise front.service.overloaded()
        seconds = timeout_s(request.headers)
        deadline = Deadline() if seconds is None else Deadline.after(seconds)
        content = await body.read(request, front.limits.max_body_bytes, deadline.at)
        if front.bodies.served > front.max_in_flight:
            raise front.service.overloaded()
        payload = read_json(content, request.headers.get("content-type"), front.limits)
        del content
        dialect = rule.choose(payload)
        request_log.note_dialect(dialect.name)
        visit = Visit.of(request.scope)
        call = Call(front.service, visit, deadline.at, body)
        answering = call.answer(dialect, payload, front.limits)
        # What the dialect doesn't keep of a large body is freed while its request waits.
        del payload
        content, stages = await answering
    except asyncio.CancelledError:
        front.telemetry.record_http(dialect.name, NO_ANSWER)
        raise
    except RerankError as error:
        front.telemetry.record_http(dialect.name, dialect.status(error))
        return error_response(front, dialect, error, request_id)
    front.telemetry.record_http(dialect.name, 200)
    content, headers = await compression.encode(content, request.headers.get("accept-encoding", ""))
    timings = {**stages, "total": (time.perf_counter() - started) * 1000}
    headers |= id_header(front, request_id)
    headers["server-timing"] = ", ".join(f"{name};dur={ms:.2f}" for name, ms in timings.items())
    return Response(content, media_type=JSON, headers=headers)


class Call:
    """One HTTP call: parsed by a dialect, metered for its client, ranked and rendered."""

    def __init__(
        self, ranker: Ranker, visit: Visit, deadline: float, received: Body | None = None
    ) -> None:
        """`deadline`: time on the monotonic clock after which the client has stopped waiting."""
        self._ranker = ranker
        self._visit = visit
        self._deadline = deadline
        self._received = received

    async def answer(
        self, dialect: Wire, body: Mapping[str, Any], limits: Limits
    ) -> tuple[bytes, Mapping[str, float]]:
        """Return the response body, and milliseconds by stage if there was one query."""
        if isinstance(dialect, ManyDialect):
            queries = dialect.parse_all(body, limits)
            return dialect.render_all(queries, await self._rank_all(queries), body), {}
        # Each stage of a large request takes milliseconds: yield to other requests in between.
        await asyncio.sleep(0)
        request = dialect.parse(body, limits)
        del body
        if self._received is not None:
            self._received.drop_unused(request)
        await asyncio.sleep(0)
        result = await self._rank(request)
        await asyncio.sleep(0)
        if len(result.results) < THREAD_RESULTS:
            return dialect.render(result, request), result.timings_ms
        return await asyncio.to_thread(dialect.render, result, request), result.timings_ms

    async def _rank(self, request: RerankRequest) -> RerankResult:
        request = replace(request, deadline=self._deadline)
        async with self._visit.metered(request) as usage:
            result = await self._ranker.rerank(request)
            usage.settle(result)
        return result

    async def _rank_all(self, queries: Sequence[Query]) -> Sequence[Outcome]:
        outcomes: dict[int, Outcome] = {}
        waiting = iter(enumerate(queries))

        async def work() -> None:
            for i, query in waiting:
                if isinstance(query, RerankError):
                    outcomes[i] = query
                    continue
                try:
                    outcomes[i] = await self._rank(query)
                except RerankError as error:
                    outcomes[i] = error

        async with asyncio.TaskGroup() as group:
            for _ in range(min(MAX_PARALLEL, len(queries))):
                group.create_task(work())
        return [outcomes[i] for i in range(len(queries))]
