"""Validation of the caller's arguments, before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from serve_app.errors import InvalidRequest


def positive(value: int, name: str) -> int:
    """Check that `value` is an integer of at least 1. Raises InvalidRequest."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidRequest(f"{name} must be a positive integer, not {value!r}", param=name)
    return int(value)


def seconds(value: float, name: str) -> float:
    """Check that `value` is more than 0. Raises InvalidRequest."""
    if not value > 0:
        raise InvalidRequest(f"{name} must be more than 0 seconds, not {value}", param=name)
    return value


def one_of(value: str, names: Collection[str], name: str) -> None:
    """Check that `value` is one of `names`. Raises InvalidRequest."""
    if value not in names:
        raise InvalidRequest(f"{name} must be one of {', '.join(names)}, not {value!r}", param=name)


def documents(given: Iterable[Any]) -> list[Any]:
    """Convert the documents to a list; the rows of a pandas frame become dicts.

    Raises InvalidRequest for a single document that is not in a list, and for anything else
    that is not iterable.
    """
    if hasattr(given, "columns") and hasattr(given, "to_dict"):
        # Iterating over a frame would yield its column names.
        rows: list[Any] = given.to_dict("records")
        return rows
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InvalidRequest(
            f"documents must be a list, not {type(given).__name__}; wrap a single document in "
            "a list",
            param="documents",
        )
    return list(given)


def query(value: Any) -> str:
    """Check that the query is a string. Raises InvalidRequest."""
    if not isinstance(value, str):
        raise InvalidRequest(f"query must be a string, not {type(value).__name__}", param="query")
    return value


def pairs(given: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Check that each request is a (query, documents) pair. Raises InvalidRequest."""
    found = list(given)
    for i, pair in enumerate(found):
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise InvalidRequest(
                f"requests[{i}] must be a (query, documents) pair", param=f"requests[{i}]"
            )
    return [(pair[0], pair[1]) for pair in found]
