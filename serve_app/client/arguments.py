"""What callers give, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import httpx

from serve_app.errors import InvalidRequest


def positive(value: int, name: str) -> int:
    """The whole number, at least 1. Raises InvalidRequest."""
    if value < 1:
        raise InvalidRequest(f"{name} must be at least 1, not {value}", param=name)
    return value


def seconds(value: float, name: str) -> float:
    """The time, above 0. Raises InvalidRequest."""
    if not value > 0:
        raise InvalidRequest(f"{name} must be above 0 seconds, not {value}", param=name)
    return value


def one_of(value: str, names: Collection[str], name: str) -> None:
    """Raises InvalidRequest where `value` is none of `names`."""
    if value not in names:
        raise InvalidRequest(f"{name} must be one of {', '.join(names)}, not {value!r}", param=name)


def base_url(value: str) -> str:
    """The address as it is. Raises InvalidRequest where it is no HTTP one."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{value!r} is no address: {error}", param="target") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidRequest(
            f"{value!r} is no address of a server; it begins with http:// or https://",
            param="target",
        )
    return value


def documents(given: Iterable[Any]) -> list[Any]:
    """The documents as a list. Raises InvalidRequest for one document that stands alone."""
    if isinstance(given, str | bytes | Mapping):
        raise InvalidRequest(
            f"documents must be a list of documents, not a {type(given).__name__}; for one "
            "document, put it into a list",
            param="documents",
        )
    return list(given)
