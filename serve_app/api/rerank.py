"""A scoring request over HTTP: read the body, choose a dialect, rank, write the response."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response

from models.concurrency import in_thread_if
from serve_app.access import Visit
from serve_app.api import compression
from serve_app.api.dialects import read_json
from serve_app.api.dialects.base import Limits, ManyDialect, Outcome, Query, Wire
from serve_app.api.dialects.json_body import count_values
from serve_app.api.dialects.routes import Rule
from serve_app.api.request_body import Body
from serve_app.api.responses import JSON, Frontend, error_response, id_header, request_id_of
from serve_app.api.timeout_headers import timeout_s
from serve_app.errors import NO_ANSWER, RerankError, ShuttingDown
from serve_app.service.deadline import Deadline, within
from serve_app.telemetry import request_log
from serve_app.types import RerankRequest, RerankResult

# Queries of one batch that are ranked in parallel, so that a batch cannot fill the queue.
MAX_PARALLEL = 4
# Bodies of more bytes, or of more values in JSON, are parsed in a thread, and their responses
# rendered in one. For smaller ones, switching threads costs more than it saves.
THREAD_BYTES = 524_288
THREAD_VALUES = 16_384
# The same for bodies with several queries, each of which is a request of its own.
THREAD_BYTES_MANY = 2_048
# Responses with at least this many results are rendered in a thread, whatever the body.
THREAD_RESULTS = 2_000

# One thread at a time: the setting is that of the whole process.
_GC_PAUSED = threading.Lock()


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
        large = _is_large(content, rule)
        async with within(deadline.at):
            kind = request.headers.get("content-type")
            parse = _parse_large if large else _parse
            payload, dialect = await in_thread_if(large, parse, content, kind, rule, front.limits)
        del content
        request_log.note_dialect(dialect.name)
        visit = Visit.of(request.scope)
        call = Call(front.service, visit, deadline.at, body)
        answering = call.answer(dialect, payload, front.limits, large)
        # `answer` drops it once it is parsed: it may be many times larger than the body.
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
        self, dialect: Wire, body: Mapping[str, Any], limits: Limits, large: bool
    ) -> tuple[bytes, Mapping[str, float]]:
        """Return the response body, and milliseconds by stage if there was one query.

        `large`: parse the body and render the response in a thread.
        """
        if isinstance(dialect, ManyDialect):
            async with within(self._deadline):
                queries = await in_thread_if(large, dialect.parse_all, body, limits)
            self._visit.charge_queries(len(queries))
            outcomes = await self._rank_all(queries)
            return await in_thread_if(large, dialect.render_all, queries, outcomes, body), {}
        # Each stage of a large request takes milliseconds: yield to other requests in between.
        await asyncio.sleep(0)
        async with within(self._deadline):
            request = await in_thread_if(large, dialect.parse, body, limits)
        del body
        if self._received is not None:
            self._received.drop_unused(request)
        await asyncio.sleep(0)
        result = await self._rank(request)
        await asyncio.sleep(0)
        spans = request.relevant_spans is not None
        large = large or spans or len(result.results) >= THREAD_RESULTS
        return await in_thread_if(large, dialect.render, result, request), result.timings_ms

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


def _is_large(body: bytes, rule: Rule) -> bool:
    if isinstance(rule.otherwise, ManyDialect):
        return len(body) > THREAD_BYTES_MANY
    return len(body) > THREAD_BYTES or (
        len(body) > THREAD_VALUES and count_values(body) > THREAD_VALUES
    )


def _parse(
    body: bytes, content_type: str | None, rule: Rule, limits: Limits
) -> tuple[Mapping[str, Any], Wire]:
    payload = read_json(body, content_type, limits)
    return payload, rule.choose(payload)


def _parse_large(
    body: bytes, content_type: str | None, rule: Rule, limits: Limits
) -> tuple[Mapping[str, Any], Wire]:
    # The garbage collector would go through the growing tree again and again, for most of the time.
    with _GC_PAUSED:
        enabled = gc.isenabled()
        gc.disable()
        try:
            return _parse(body, content_type, rule, limits)
        finally:
            if enabled:
                gc.enable()
