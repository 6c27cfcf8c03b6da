"""Turn a provider's error response into a RemoteError, by status, with the provider's message."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from models.remote.errors import (
    RemoteError,
    RemoteNotFound,
    RemoteRateLimited,
    RemoteRefused,
    RemoteUnauthorized,
    RemoteUnavailable,
)

# Too early, timed out, and what gateways return for a server that is down (52x, 529).
TRANSIENT = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
REFUSALS = frozenset({400, 413, 422})
_MAX_CHARS = 300
_KEYS = ("message", "Message", "detail", "error_msg", "error_description", "errorMessage", "error")


def error_for(label: str, status: int, headers: Mapping[str, str], content: bytes) -> RemoteError:
    """The error for an answer that is not 2xx."""
    message = message_in(content)
    text = f"{label} returned {status}" + (f": {message}" if message else "")
    if status == 429:
        return RemoteRateLimited(text, retry_after_s=retry_after(headers) or 1.0)
    if status in (401, 403):
        return RemoteUnauthorized(f"{text}. Check the key and its permissions.")
    if status == 402:
        return RemoteUnauthorized(f"{text}. The account has no credit.")
    if status in REFUSALS:
        return RemoteRefused(text)
    if status in TRANSIENT or status >= 500:
        return RemoteUnavailable(text, retry_after_s=retry_after(headers))
    # Also redirects, which are not followed, and wrong methods or content types.
    return RemoteNotFound(f"{text}. Check `model` and `base_url`.")


def message_in(content: bytes) -> str:
    """The message of an error body in any shape that providers use; empty if there is none."""
    try:
        return _message(orjson.loads(content), 4)[:_MAX_CHARS]
    except ValueError:
        return ""


def _message(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list) and value and depth:
        return _message(value[0], depth - 1)
    if isinstance(value, dict) and depth:
        for key in (*_KEYS, "msg"):
            if value.get(key) and (message := _message(value[key], depth - 1)):
                return message
    return ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: a number or a date (RFC 9110, 10.2.3), or the milliseconds some send."""
    try:
        if milliseconds := headers.get("retry-after-ms"):
            seconds = float(milliseconds) / 1000
        else:
            seconds = _seconds(headers.get("retry-after", ""))
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _seconds(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
