"""A provider's refusal as a RemoteError: by its status, with what the provider says of it."""

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

# Too early, timed out, and what gateways answer for a server that is down (52x, 529).
TRANSIENT = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
REFUSALS = frozenset({400, 413, 422})
_MAX_CHARS = 300
_KEYS = ("message", "Message", "detail", "error_msg", "error_description", "errorMessage", "error")


def problem(who: str, status: int, headers: Mapping[str, str], content: bytes) -> RemoteError:
    """The error for an answer with a status of 300 or more."""
    said = said_in(content)
    text = f"{who} answers {status}" + (f": {said}" if said else "")
    if status == 429:
        return RemoteRateLimited(text, retry_after_s=retry_after(headers) or 1.0)
    if status in (401, 403):
        return RemoteUnauthorized(f"{text}. Check the key and its rights.")
    if status == 402:
        return RemoteUnauthorized(f"{text}. The account has no credit.")
    if status in REFUSALS:
        return RemoteRefused(text)
    if status in TRANSIENT or status >= 500:
        return RemoteUnavailable(text, retry_after_s=retry_after(headers))
    # Also a redirect, which is not followed, and a method or type that isn't taken there.
    return RemoteNotFound(f"{text}. Check `model` and `base_url`.")


def said_in(content: bytes) -> str:
    """The message in an error's body, in any of the shapes that providers use; else nothing."""
    try:
        return _said(orjson.loads(content), 4)[:_MAX_CHARS]
    except ValueError:
        return ""


def _said(value: Any, depth: int) -> str:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, list) and value and depth:
        return _said(value[0], depth - 1)
    if isinstance(value, dict) and depth:
        for key in (*_KEYS, "msg"):
            if value.get(key) and (said := _said(value[key], depth - 1)):
                return said
    return ""


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: a number or a date (RFC 9110, 10.2.3), or milliseconds as some send it."""
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
