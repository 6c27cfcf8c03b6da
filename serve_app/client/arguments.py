"""What callers give, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import httpx

from serve_app.errors import InvalidRequest


def positive(value: int, name: str) -> int:
    """The whole number, at least 1. Raises InvalidRequest."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidRequest(f"{name} must be a whole number from 1, not {value!r}", param=name)
    return int(value)


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
    """The documents as a list; the rows of a pandas frame as dicts.

    Raises InvalidRequest for one document that stands alone, and for what is no list.
    """
    if hasattr(given, "columns") and hasattr(given, "to_dict"):
        # To go over a frame is to go over its columns' names.
        rows: list[Any] = given.to_dict("records")
        return rows
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InvalidRequest(
            f"documents must be a list of documents, not a {type(given).__name__}; for one "
            "document, put it into a list",
            param="documents",
        )
    return list(given)


def query(value: Any) -> str:
    """The query. Raises InvalidRequest where it is no string."""
    if not isinstance(value, str):
        raise InvalidRequest(f"a query must be a string, not {type(value).__name__}", param="query")
    return value


def pairs(given: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Queries with their documents. Raises InvalidRequest for what is no such pair."""
    found = list(given)
    for i, pair in enumerate(found):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InvalidRequest(
                f"requests[{i}] must be a query and its documents", param=f"requests[{i}]"
            )
    return [(pair[0], pair[1]) for pair in found]
