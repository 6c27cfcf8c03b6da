"""Headers of requests that Ray Serve reads before the application does, made safe for it."""

from __future__ import annotations

import os
import uuid

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

REQUEST_ID = b"x-request-id"
MAX_ID_CHARS = 128
# Ray Serve decodes these as UTF-8 and answers other bytes with a 500 in plain text. It treats `-`
# and `_` in their names as the same.
READ_BY_RAY = frozenset(
    {
        b"serve-multiplexed-model-id",
        b"traceparent",
        b"tracestate",
        b"x-request-disconnect-disabled",
        b"x-request-timeout-seconds",
        os.environ.get("RAY_SERVE_SESSION_ID_HEADER_KEY", "x-session-id")
        .lower()
        .replace("_", "-")
        .encode(),
    }
)
# The longest of them, tracestate, needs no more.
MAX_VALUE_CHARS = 512

Header = tuple[bytes, bytes]


class CleanHeaders:
    """Gives every request exactly one valid ID, and drops values that Ray Serve cannot read.

    The ID in the response's header, in its body and in the log is then the same: the client's own
    if it is 1 to 128 printable ASCII characters, otherwise a new one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["headers"] = cleaned(scope["headers"])
        await self._app(scope, receive, send)


def cleaned(headers: list[Header]) -> list[Header]:
    """The headers with one valid request ID and without unreadable ones."""
    kept: list[Header] = []
    request_id = b""
    for name, value in headers:
        plain = name.lower().replace(b"_", b"-")
        if name.lower() == REQUEST_ID:
            if not request_id and _is_plain(value, MAX_ID_CHARS):
                request_id = value
        elif plain not in READ_BY_RAY or _is_plain(value, MAX_VALUE_CHARS):
            kept.append((name, value))
    kept.append((REQUEST_ID, request_id or uuid.uuid4().hex.encode()))
    return kept


def _is_plain(value: bytes, max_chars: int) -> bool:
    return 0 < len(value) <= max_chars and value.isascii() and value.decode("ascii").isprintable()


def middleware() -> list[Middleware]:
    """The middleware for Ray Serve's HTTP servers, around everything that they do themselves.

    `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH` names this function.
    """
    return [Middleware(CleanHeaders)]
