"""The client's exceptions, and the mapping from error responses to the service's own."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from serve_app import errors
from serve_app.errors import RerankError

_BY_CODE: dict[str, type[RerankError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, RerankError)
}
_BY_STATUS: dict[int, type[RerankError]] = {
    400: errors.InvalidRequest,
    401: errors.Unauthorized,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.InvalidRequest,
    429: errors.RateLimited,
}
_SHOWN_CHARS = 300


class Unreachable(RerankError):
    """No response arrived: the connection failed or was lost."""

    status = 503
    code = "unreachable"


class TookTooLong(RerankError):
    """No response arrived within the client's timeout."""

    status = 504
    code = "timeout"


class BadAnswer(RerankError):
    """The response is invalid: not JSON, a duplicate index, a score that is not a number."""

    status = 502
    code = "bad_answer"


class Refused(RerankError):
    """An error status without an exception of its own."""

    code = "refused"


def from_response(
    status: int, content: bytes, headers: Mapping[str, str], source: str
) -> RerankError:
    """Create the exception for an HTTP error response.

    The message is the response's own, in whichever dialect, prefixed with `source` and status.
    """
    message, code, param = _read(content)
    error = from_fields(status, message, code, param, source)
    # Overrides the class's default, also if the response has no Retry-After.
    error.retry_after_s = _retry_after(headers.get("retry-after"))
    if request_id := headers.get("x-request-id"):
        error.add_note(f"request id: {request_id}")
    return error


def from_fields(
    status: int, message: str, code: str, param: str | None, source: str
) -> RerankError:
    """Create the exception for the fields of one error."""
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, Refused)
    error = kind(f"{source} returned {status}: {message}", param=param)
    error.status = status
    return error


def copy_error(error: RerankError) -> RerankError:
    """Copy an error for another query, so that later notes stay separate."""
    other = type(error)(error.message, param=error.param)
    other.status, other.retry_after_s = error.status, error.retry_after_s
    for note in getattr(error, "__notes__", ()):
        other.add_note(note)
    return other


def _read(content: bytes) -> tuple[str, str, str | None]:
    """Read message, code and parameter from the native, Cohere, Jina, OpenAI and TEI formats."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return content[:_SHOWN_CHARS].decode("utf-8", "replace") or "empty body", "", None
    detail: Any = body.get("error")
    if not isinstance(detail, dict):
        detail = {**body, "message": body.get("message") or body.get("detail") or detail}
    message, code, param = (detail.get(name) for name in ("message", "code", "param"))
    if not isinstance(message, str):
        message = json.dumps(message if message is not None else body)[:_SHOWN_CHARS]
    return message, code if isinstance(code, str) else "", param if isinstance(param, str) else None


def _retry_after(value: str | None) -> int | None:
    """Parse a Retry-After header, in seconds or as a date, into whole seconds."""
    if value is None:
        return None
    try:
        return max(0, math.ceil(float(value)))
    except (ValueError, OverflowError):
        pass
    try:
        return max(0, math.ceil(parsedate_to_datetime(value).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None
