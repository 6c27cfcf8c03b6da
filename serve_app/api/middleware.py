"""The ASGI middleware around all routes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.access import HEADER_NAMES, Access, Visit
from serve_app.errors import NO_ANSWER, RerankError
from serve_app.telemetry import tracing
from serve_app.telemetry.request_log import Observed, log, observe

logger = logging.getLogger("ray.serve")

GetAccess = Callable[[], Access]
Refuse = Callable[[Request, RerankError], Response]

# Polled by machines: not traced, and logged only at DEBUG.
PROBES = frozenset({"/health", "/ready", "/metrics"})
SERVER_ERROR = 500


class Observer:
    """Traces and logs a request from its arrival until its response is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = NO_ANSWER

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        observed = Observed(scope["method"], scope["path"])
        probe = scope["path"] in PROBES
        with observe(observed), _span(scope, probe) as span:
            try:
                await self._app(scope, receive, send_and_note_status)
            finally:
                visit = Visit.found(scope)
                observed.key = visit.name if visit is not None else ""
                _describe(span, scope, observed, status)
                log(observed, status, level=logging.DEBUG if probe else logging.INFO)


def _span(scope: Scope, probe: bool) -> Any:
    if probe or not tracing.enabled():
        return tracing.NO_SPAN
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return tracing.span(scope["method"], "server", headers)


def _describe(span: Any, scope: Scope, observed: Observed, status: int) -> None:
    """Set the attributes of a served request, using OpenTelemetry's HTTP names."""
    if span is None:
        return
    # Paths without a route are arbitrary, so they must not become span names.
    if "endpoint" in scope and not scope.get("path_params"):
        span.update_name(f"{scope['method']} {scope['path']}")
        span.set_attribute("http.route", scope["path"])
    span.set_attribute("http.request.method", scope["method"])
    span.set_attribute("http.response.status_code", status)
    for name in ("dialect", "model", "documents", "tokens", "cached_tokens", "key"):
        if value := getattr(observed, name):
            span.set_attribute(f"rerank.{name}", value)
    if status >= SERVER_ERROR:
        tracing.mark_failed(span)


class HasInFlight(Protocol):
    """A process that counts the HTTP requests whose response is not fully sent."""

    in_flight: int


class InFlight:
    """Counts a request until its response is sent, so that a shutdown can wait for it."""

    def __init__(self, app: ASGIApp, frontend: Callable[[], HasInFlight]) -> None:
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


class UnexpectedErrors:
    """Turns unexpected exceptions into responses; the outer middleware logs and counts those."""

    def __init__(self, app: ASGIApp, answer: Callable[[Request], Response]) -> None:
        self._app = app
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_and_note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_and_note_start)
        except Exception:
            if started or scope["type"] != "http":
                raise
            # The traceback goes to the log, not to the client.
            logger.exception("unexpected error at %s", scope["path"])
            await self._answer(Request(scope))(scope, receive, send)


class Gate:
    """Rejects requests without a valid key or over their rate limit, before reading the body."""

    def __init__(self, app: ASGIApp, access: GetAccess, refuse: Refuse) -> None:
        self._app = app
        self._access = access
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = self._access().enter(scope)
        status = NO_ANSWER

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(visit.headers())
            await send(message)

        app = self._app
        if visit.problem is not None:
            app = self._refuse(Request(scope), visit.problem)
        try:
            await app(scope, receive, with_headers)
        finally:
            visit.ended(status)


class Cors:
    """Starlette's CORS middleware for the configured origins; does nothing if there are none.

    Created at the first request, since Ray pickles the application before settings exist.
    """

    def __init__(self, app: ASGIApp, access: GetAccess) -> None:
        self._app = app
        self._access = access
        self._inner: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._inner is None:
            self._inner = self._make(self._access().cors_origins)
        await self._inner(scope, receive, send)

    def _make(self, origins: tuple[str, ...]) -> ASGIApp:
        if not origins:
            return self._app
        return CORSMiddleware(
            self._app,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            expose_headers=("x-request-id", "retry-after", "server-timing", *HEADER_NAMES),
        )
