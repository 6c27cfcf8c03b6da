"""Parts of every response: JSON, the request ID, and errors in the shape of a dialect."""

from __future__ import annotations

from typing import Any, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response

from serve_app.access import Access
from serve_app.api import compression
from serve_app.api.dialects import Limits, Wire
from serve_app.api.request_body import Bodies
from serve_app.errors import BodyTooSlow, RerankError, UnsupportedEncoding
from serve_app.service.rerank import RerankService
from serve_app.telemetry import Snapshot, Telemetry

JSON = "application/json"


class Frontend(Protocol):
    """What the routes need from the process that they run in."""

    service: RerankService
    telemetry: Telemetry
    access: Access
    limits: Limits
    created: int
    # False if the server in front sets x-request-id on responses, as Ray Serve does.
    sets_request_id: bool
    # HTTP requests whose response is not fully sent.
    in_flight: int
    bodies: Bodies
    # Maximum requests whose body is complete and whose response is not ready yet; above it, bodies
    # are not even read.
    max_in_flight: int

    async def health(self) -> dict[str, Any]: ...

    async def snapshot(self) -> Snapshot: ...

    @property
    def closing(self) -> bool: ...


def request_id_of(request: Request) -> str:
    """The request's ID, which `CleanHeaders` checked or set."""
    return request.headers["x-request-id"]


def id_header(front: Frontend, request_id: str) -> dict[str, str]:
    return {"x-request-id": request_id} if front.sets_request_id else {}


def error_response(front: Frontend, dialect: Wire, error: RerankError, request_id: str) -> Response:
    headers = id_header(front, request_id)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, UnsupportedEncoding):
        headers["accept-encoding"] = ", ".join(compression.ENCODINGS)
    if isinstance(error, BodyTooSlow):
        # The rest of the body may never come.
        headers["connection"] = "close"
    return Response(
        dialect.error(error, request_id), dialect.status(error), media_type=JSON, headers=headers
    )


def json_response(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type=JSON)
