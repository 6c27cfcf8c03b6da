"""What a call can fail with: the service's own exceptions, and those of the way there."""

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
    """No answer came: the connection failed or was lost."""

    status = 503
    code = "unreachable"


class TookTooLong(RerankError):
    """No answer came within the client's own timeout."""

    status = 504
    code = "timeout"


class BadAnswer(RerankError):
    """An answer came that is none: not JSON, an index twice, a score that is no number."""

    status = 502
    code = "bad_answer"


class Refused(RerankError):
    """A status that stands for no other exception of the tree."""

    code = "refused"


def from_response(
    status: int, content: bytes, headers: Mapping[str, str], source: str
) -> RerankError:
    """The exception for an HTTP answer that is an error.

    Its message is the answer's own, whichever shape that has; `source` is named in it.
    """
    message, code, param = _read(content)
    error = from_fault(status, message, code, param, source)
    # A class has a default; what this answer says, or doesn't, counts.
    error.retry_after_s = _retry_after(headers.get("retry-after"))
    if request_id := headers.get("x-request-id"):
        error.add_note(f"request id: {request_id}")
    return error


def from_fault(status: int, message: str, code: str, param: str | None, source: str) -> RerankError:
    """The exception for what an answer says of one failure."""
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, Refused)
    error = kind(f"{source} answered {status}: {message}", param=param)
    error.status = status
    return error


def copy_of(error: RerankError) -> RerankError:
    """The same failure for another query: notes of one are not the other's."""
    other = type(error)(error.message, param=error.param)
    other.status, other.retry_after_s = error.status, error.retry_after_s
    for note in getattr(error, "__notes__", ()):
        other.add_note(note)
    return other


def _read(content: bytes) -> tuple[str, str, str | None]:
    """Message, code and parameter, from the native, Cohere, Jina, OpenAI and TEI shapes."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return content[:_SHOWN_CHARS].decode("utf-8", "replace") or "no body", "", None
    detail: Any = body.get("error")
    if not isinstance(detail, dict):
        detail = {**body, "message": body.get("message") or body.get("detail") or detail}
    message, code, param = (detail.get(name) for name in ("message", "code", "param"))
    if not isinstance(message, str):
        message = json.dumps(message if message is not None else body)[:_SHOWN_CHARS]
    return message, code if isinstance(code, str) else "", param if isinstance(param, str) else None


def _retry_after(value: str | None) -> int | None:
    """Whole seconds from a Retry-After header, which holds seconds or a date."""
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
