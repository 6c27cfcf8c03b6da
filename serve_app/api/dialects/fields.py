"""Parse and check the fields that dialects have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_app.api.dialects.base import Limits, json_type
from serve_app.errors import BadRequest, InvalidRequest
from serve_app.types import RerankResult

MAX_MODEL_CHARS = 256
_NAMED_INDICES = 20


def query(body: Mapping[str, Any], limits: Limits, name: str = "query") -> str:
    """Return the query: a string, or an object with text, as Jina's and NVIDIA's clients send it.

    Empty if `query_image_url` replaces it.
    """
    value = body.get(name)
    if isinstance(value, Mapping):
        if value.get("image") is not None:
            raise InvalidRequest(
                f"{name}.image is not supported; the query must be text.", param=f"{name}.image"
            )
        value = value.get("text")
    blank = value is None or (isinstance(value, str) and not value.strip())
    if blank and body.get("query_image_url") is not None:
        return ""
    return query_text(value, limits, name)


def query_text(value: Any, limits: Limits, where: str = "query") -> str:
    if value is None:
        raise BadRequest(f"invalid request: {where} must not be empty", param=where)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where} must be a string, not {json_type(value)}.", param=where)
    if not value.strip():
        raise BadRequest(f"invalid request: {where} must not be empty", param=where)
    if len(value) > limits.max_query_chars:
        raise InvalidRequest(
            f"{where} has {len(value)} characters; the maximum is {limits.max_query_chars}.",
            param=where,
        )
    return value


def top(body: Mapping[str, Any], count: int, *names: str) -> int | None:
    """Return the maximum number of results, under any of `names`, at most `count`; None: all."""
    wanted = {name: positive(name, body[name]) for name in names if body.get(name) is not None}
    if len(set(wanted.values())) > 1:
        raise InvalidRequest(
            f"{' and '.join(wanted)} differ. Send only one of them.", param=next(iter(wanted))
        )
    return min(next(iter(wanted.values())), count) if wanted else None


def positive(name: str, value: Any) -> int:
    return whole(name, value, at_least=1, what="a positive integer")


def whole(name: str, value: Any, *, at_least: int, what: str, at_most: int | None = None) -> int:
    # JSON has a single number type, and some clients write integers as 5.0.
    integral = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    fits = integral and not isinstance(value, bool) and value >= at_least
    if not fits or (at_most is not None and value > at_most):
        shown = value if isinstance(value, (int, float)) else json_type(value)
        raise InvalidRequest(f"{name} must be {what}, not {shown}.", param=name)
    return int(value)


def flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a boolean; Xinference's clients send the strings "true" and "false"."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be true or false, not {json_type(value)}.", param=name)
    return value


def choice(body: Mapping[str, Any], name: str, choices: Mapping[str, Any]) -> Any:
    """Return the value of one of several words, ignoring case; None if the field is absent."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or value.lower() not in choices:
        raise InvalidRequest(f"{name} must be {' or '.join(choices)}.", param=name)
    return choices[value.lower()]


def model(body: Mapping[str, Any]) -> str | None:
    value = body.get("model")
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"model must be a string, not {json_type(value)}.", param="model")
    if len(value) > MAX_MODEL_CHARS:
        raise InvalidRequest(
            f"model must have at most {MAX_MODEL_CHARS} characters.", param="model"
        )
    return value or None


def warnings(result: RerankResult) -> list[str]:
    """Return the warnings about a successful result."""
    return [*_truncated(result), *result.warnings]


def _truncated(result: RerankResult) -> list[str]:
    if not result.truncated:
        return []
    named = ", ".join(map(str, result.truncated[:_NAMED_INDICES]))
    more = ", …" if len(result.truncated) > _NAMED_INDICES else ""
    return [
        f"{len(result.truncated)} of the documents were longer than the model's maximum"
        f" and were truncated (index {named}{more})."
    ]
