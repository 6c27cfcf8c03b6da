"""The Starlette application: its routes and its middleware."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from serve_app import __version__
from serve_app.access import Visit
from serve_app.api import compression, openapi, rerank, web
from serve_app.api.dialects import ROUTES, default_for, tei
from serve_app.api.dialects.routes import Rule
from serve_app.api.middleware import Cors, Gate, InFlight, Observer, UnexpectedErrors
from serve_app.api.request_headers import CleanHeaders
from serve_app.api.responses import (
    JSON,
    Frontend,
    error_response,
    json_response,
    request_id_of,
)
from serve_app.errors import MethodNotAllowed, NotFound, RerankError, UnknownModel
from serve_app.telemetry import to_json, to_prometheus

# Statuses in which requests are answered.
SERVING = ("ok", "degraded")
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def make_app(frontend: Callable[[], Frontend]) -> Starlette:
    """Build the application.

    `frontend` is called for each request, because Ray pickles the application before its replica
    exists.
    """

    def scoring(rule: Rule) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            return await rerank.score(frontend(), rule, request)

        return endpoint

    async def health(request: Request) -> Response:
        report = await frontend().health()
        status = 200 if report["status"] in SERVING else 503
        if not Visit.of(request.scope).operator:
            # Models, their paths and the traffic are not for strangers.
            report = {"status": report["status"]}
        return json_response(report, status)

    async def ready(request: Request) -> Response:
        report = await frontend().health()
        is_ready = report["status"] in SERVING
        return json_response({"ready": is_ready}, 200 if is_ready else 503)

    async def metrics(request: Request) -> Response:
        snapshot = await frontend().snapshot()
        accept = request.headers.get("accept", "")
        if "text/plain" in accept or "openmetrics" in accept:
            return Response(to_prometheus(snapshot), media_type=PROMETHEUS)
        return json_response(to_json(snapshot))

    async def models(request: Request) -> Response:
        return json_response({"object": "list", "data": _models(frontend())})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        found = [entry for entry in _models(frontend()) if entry["id"] == name]
        if not found:
            problem = UnknownModel(f"the model {name[:200]!r} was not found; see /v1/models")
            return failed(request, problem)
        return json_response(found[0])

    async def info(request: Request) -> Response:
        front = frontend()
        details = Visit.of(request.scope).operator
        report = await front.health()
        return json_response(tei.info(report, front.limits, __version__, show_source=details))

    async def usage(request: Request) -> Response:
        front = frontend()
        return json_response(front.access.usage(Visit.of(request.scope), await front.snapshot()))

    async def contract(request: Request) -> Response:
        content = orjson.dumps(openapi.document(__version__))
        accept = request.headers.get("accept-encoding", "")
        content, headers = await compression.encode(content, accept)
        return Response(content, media_type=JSON, headers=headers)

    async def docs(request: Request) -> Response:
        return HTMLResponse(web.page("docs.html"))

    def failed(request: Request, problem: RerankError) -> Response:
        """Answer with the error in the shape of the path's default dialect."""
        dialect = default_for(request.url.path)
        return error_response(frontend(), dialect, problem, request_id_of(request))

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

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RerankError)
        return failed(request, error)

    def unexpected(request: Request) -> Response:
        problem = RerankError("unexpected error; see the service's log for this request ID")
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
            # Also around Ray Serve's own servers, if they are configured so (see its docstring).
            Middleware(CleanHeaders),
            Middleware(InFlight, frontend=frontend),
            Middleware(Observer),
            Middleware(Cors, access=lambda: frontend().access),
            Middleware(Gate, access=lambda: frontend().access, refuse=refuse),
            Middleware(UnexpectedErrors, answer=unexpected),
        ],
        exception_handlers={HTTPException: http_error, RerankError: refused},
    )


def _http_problem(request: Request, error: Exception) -> RerankError:
    if getattr(error, "status_code", 404) == 405:
        return MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}; see /docs")
    return NotFound(f"{request.url.path} was not found; see /docs")


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
            # Xinference's clients read the model's abilities from this.
            "model_type": "rerank",
        }
        for name, target in names
    ]
