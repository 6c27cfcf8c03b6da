"""The HTTP surface: routes to dialects, errors to their shapes, health and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import __version__, coding, exchange, openapi, web
from serve_app.access import Access, Visit
from serve_app.access.middleware import Cors, Gate
from serve_app.deadline import Deadline, timeout_s
from serve_app.dialects import ROUTES, Limits, Wire, default_for, read_json, tei
from serve_app.dialects.routes import Rule
from serve_app.errors import (
    NO_ANSWER,
    MethodNotAllowed,
    NotFound,
    RerankError,
    ShuttingDown,
    UnknownModel,
    UnsupportedEncoding,
)
from serve_app.observation import current
from serve_app.observer import Observer
from serve_app.service import RerankService
from serve_app.telemetry import Snapshot, Telemetry, to_json, to_prometheus
from serve_app.types import RerankRequest, RerankResult

logger = logging.getLogger("ray.serve")
JSON = "application/json"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


class Frontend(Protocol):
    """What the routes need of the process that they run in."""

    service: RerankService
    telemetry: Telemetry
    access: Access
    limits: Limits
    created: int
    # False where the server in front sets x-request-id on answers itself, as Ray Serve does.
    sets_request_id: bool
    # HTTP requests whose answer is not sent whole; over the bound not even a body is read.
    in_flight: int
    max_in_flight: int

    async def health(self) -> dict[str, Any]: ...

    async def snapshot(self) -> Snapshot: ...

    @property
    def closing(self) -> bool: ...


class _InFlight:
    """Counts a request until its answer is sent, so that a stop can wait for it."""

    def __init__(self, app: ASGIApp, frontend: Callable[[], Frontend]) -> None:
        self._app = app
        self._frontend = frontend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        front = self._frontend()
        front.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            front.in_flight -= 1


class _Unexpected:
    """Answers an exception that nothing expected, inside what marks, logs and counts answers."""

    def __init__(self, app: ASGIApp, answer: Callable[[Request], Response]) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception:
            if begun or scope["type"] != "http":
                raise
            # The log has the trace; the client gets none of it.
            logger.exception("unexpected error at %s", scope["path"])
            await self._answer(Request(scope))(scope, receive, send)


def make_app(frontend: Callable[[], Frontend]) -> Starlette:
    """The Starlette application. `frontend` is asked at each request, since Ray pickles the
    application before the replica that serves it exists."""

    def scoring(rule: Rule) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await _score(frontend(), rule, request)

        return endpoint

    async def health(request: Request) -> Response:
        report = await frontend().health()
        return _json(report, 200 if report["status"] == "ok" else 503)

    async def ready(request: Request) -> Response:
        report = await frontend().health()
        is_ready = report["status"] == "ok"
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    async def metrics(request: Request) -> Response:
        snapshot = await frontend().snapshot()
        accept = request.headers.get("accept", "")
        if "text/plain" in accept or "openmetrics" in accept:
            return Response(to_prometheus(snapshot), media_type=PROMETHEUS)
        return _json(to_json(snapshot))

    async def models(request: Request) -> Response:
        return _json({"object": "list", "data": _models(frontend())})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        found = [entry for entry in _models(frontend()) if entry["id"] == name]
        if not found:
            problem = UnknownModel(f"there is no model {name[:200]!r}; see /v1/models")
            return failed(request, problem)
        return _json(found[0])

    async def info(request: Request) -> Response:
        front = frontend()
        return _json(tei.info(await front.health(), front.limits, __version__))

    async def usage(request: Request) -> Response:
        front = frontend()
        return _json(front.access.usage(Visit.of(request.scope), await front.snapshot()))

    async def contract(request: Request) -> Response:
        content = orjson.dumps(openapi.document(__version__))
        content, headers = await coding.encode(content, request.headers.get("accept-encoding", ""))
        return Response(content, media_type=JSON, headers=headers)

    async def docs(request: Request) -> Response:
        return HTMLResponse(web.page("docs.html"))

    def failed(request: Request, problem: RerankError) -> Response:
        """The error in the shape of the path's usual dialect."""
        return _error(frontend(), default_for(request.url.path), problem, _request_id(request))

    def refuse(request: Request, problem: RerankError) -> Response:
        dialect = default_for(request.url.path)
        frontend().telemetry.record_http(dialect.name, dialect.status(problem))
        return failed(request, problem)

    async def http_error(request: Request, error: Exception) -> Response:
        problem = _http_problem(request, error)
        response = failed(request, problem)
        if allowed := (getattr(error, "headers", None) or {}).get("Allow"):
            response.headers["allow"] = allowed
        return response

    def unexpected(request: Request) -> Response:
        problem = RerankError("an unexpected error; the service's log has it under this request id")
        return refuse(request, problem)

    return Starlette(
        routes=[
            *(Route(path, scoring(rule), methods=["POST"]) for path, rule in ROUTES.items()),
            Route("/health", health),
            Route("/info", info),
            Route("/ready", ready),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            Route("/v1/usage", usage),
            Route("/v1/models/{name:path}", model),
            Route("/openapi.json", contract),
            Route("/docs", docs),
        ],
        middleware=[
            Middleware(_InFlight, frontend=frontend),
            Middleware(Observer),
            Middleware(Cors, access=lambda: frontend().access),
            Middleware(Gate, access=lambda: frontend().access, refuse=refuse),
            Middleware(_Unexpected, answer=unexpected),
        ],
        exception_handlers={HTTPException: http_error},
    )


async def _score(front: Frontend, rule: Rule, request: Request) -> Response:
    started = time.perf_counter()
    request_id = _request_id(request)
    dialect = rule.otherwise
    _observe(dialect)
    try:
        if front.closing:
            raise ShuttingDown("the service is stopping; send the request to another one")
        if front.in_flight > front.max_in_flight:
            raise front.service.crowded()
        seconds = timeout_s(request.headers)
        deadline = Deadline() if seconds is None else Deadline.after(seconds)
        body = await _read(request, front.limits.max_body_bytes)
        payload = read_json(body, request.headers.get("content-type"), front.limits)
        visit = Visit.of(request.scope)
        dialect = rule.choose(payload)
        _observe(dialect)

        async def rank(wanted: RerankRequest) -> RerankResult:
            return await visit.run(replace(wanted, deadline=deadline.at), front.service.rerank)

        content, stages = await exchange.answer(rank, dialect, payload, front.limits)
    except asyncio.CancelledError:
        front.telemetry.record_http(dialect.name, NO_ANSWER)
        raise
    except RerankError as error:
        front.telemetry.record_http(dialect.name, dialect.status(error))
        return _error(front, dialect, error, request_id)
    front.telemetry.record_http(dialect.name, 200)
    content, headers = await coding.encode(content, request.headers.get("accept-encoding", ""))
    timings = {**stages, "total": (time.perf_counter() - started) * 1000}
    headers |= _id_header(front, request_id)
    headers["server-timing"] = ", ".join(f"{name};dur={ms:.2f}" for name, ms in timings.items())
    return Response(content, media_type=JSON, headers=headers)


def _observe(dialect: Wire) -> None:
    if (observed := current()) is not None:
        observed.dialect = dialect.name


async def _read(request: Request, limit: int) -> bytes:
    """The body, decompressed; refused as soon as it is known to be too large."""
    encoding = coding.check_encoding(request.headers.get("content-encoding", ""))
    declared = request.headers.get("content-length", "").lstrip("0")
    # By their number first: Python makes no integer of thousands of digits, or of a superscript.
    digits = declared.isascii() and declared.isdigit()
    if digits and (len(declared) > 18 or int(declared) > limit):
        raise coding.too_large(limit)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise coding.too_large(limit)
        chunks.append(chunk)
    return await coding.decode(b"".join(chunks), encoding, limit)


def _request_id(request: Request) -> str:
    """The client's own id where it sent a usable one, else a new one."""
    sent = request.headers.get("x-request-id", "")
    return (
        sent if 0 < len(sent) <= 128 and sent.isprintable() and sent.isascii() else uuid.uuid4().hex
    )


def _id_header(front: Frontend, request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id} if front.sets_request_id else {}


def _error(front: Frontend, dialect: Wire, error: RerankError, request_id: str) -> Response:
    headers = _id_header(front, request_id)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, UnsupportedEncoding):
        headers["accept-encoding"] = ", ".join(coding.ENCODINGS)
    return Response(
        dialect.error(error, request_id), dialect.status(error), media_type=JSON, headers=headers
    )


def _http_problem(request: Request, error: Exception) -> RerankError:
    if getattr(error, "status_code", 404) == 405:
        return MethodNotAllowed(
            f"{request.method} is not answered at {request.url.path}; see /docs"
        )
    return NotFound(f"there is nothing at {request.url.path}; see /docs")


def _models(front: Frontend) -> list[dict[str, Any]]:
    catalog = front.service.catalog
    names = [(name, name) for name in catalog.names] + sorted(catalog.aliases.items())
    return [
        {
            "id": name,
            "object": "model",
            "created": front.created,
            "owned_by": "rerank-serve",
            "root": target,
            "default": name == catalog.default,
            # Xinference's clients choose what to ask a model for by this.
            "model_type": "rerank",
        }
        for name, target in names
    ]


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type=JSON)
