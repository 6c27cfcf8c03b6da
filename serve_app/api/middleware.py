"""The ASGI middleware around all routes, so that a new route gets each of them too."""

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

Find = Callable[[], Access]
Refuse = Callable[[Request, RerankError], Response]

# Asked again and again by machines: no span, and a line at DEBUG alone.
PROBES = frozenset({"/health", "/ready", "/metrics"})
SERVER_ERROR = 500


class Observer:
    """Observes a request from its arrival until its answer is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = NO_ANSWER

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        observed = Observed(scope["method"], scope["path"])
        probe = scope["path"] in PROBES
        with observe(observed), _span(scope, probe) as span:
            try:
                await self._app(scope, receive, seen)
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
    """What is known of the request once it is answered, under OpenTelemetry's HTTP names."""
    if span is None:
        return
    # A path that nothing answers may be anything: no name is made of it.
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
    """A process that counts the HTTP requests whose answer is not sent whole."""

    in_flight: int


class InFlight:
    """Counts a request until its answer is sent, so that a stop can wait for it."""

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


class Gate:
    """Refuses what has no key or is over its rate, before its body is read."""

    def __init__(self, app: ASGIApp, access: Find, refuse: Refuse) -> None:
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
    """Starlette's CORS, for the origins that are set: none, and it is not there.

    It is made at the first request, since Ray pickles the application before there are settings.
    """

    def __init__(self, app: ASGIApp, access: Find) -> None:
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
