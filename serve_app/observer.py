"""The outermost middleware: each HTTP request's span and its line in the log."""

from __future__ import annotations

import logging
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app import tracing
from serve_app.access import Visit
from serve_app.errors import NO_ANSWER
from serve_app.observation import Observed, log, observing

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
        with observing(observed), _span(scope, probe) as span:
            try:
                await self._app(scope, receive, seen)
            finally:
                visit = Visit.found(scope)
                observed.key = visit.name if visit is not None else ""
                _describe(span, scope, observed, status)
                log(observed, status, level=logging.DEBUG if probe else logging.INFO)


def _span(scope: Scope, probe: bool) -> Any:
    if probe or not tracing.enabled():
        return tracing.NONE
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
        tracing.failed(span)
