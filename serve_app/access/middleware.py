"""The gate and CORS as ASGI middleware around all routes, so that a new route is closed too."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.access.gate import Access
from serve_app.access.limits import HEADER_NAMES
from serve_app.errors import NO_ANSWER, RerankError

Find = Callable[[], Access]
Refuse = Callable[[Request, RerankError], Response]


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
