"""Parse a request body as a JSON object."""

from __future__ import annotations

import codecs
import json
from typing import Any

import orjson

from serve_app.api.dialects.base import Limits, json_type
from serve_app.errors import BodyTooLarge, MalformedBody, UnsupportedMediaType

_SLICE = 2**20


def read_json(body: bytes, content_type: str | None, limits: Limits) -> dict[str, Any]:
    """Parse the body. Raises UnsupportedMediaType, BodyTooLarge or MalformedBody."""
    if content_type and not _is_json(content_type):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    if len(body) > limits.max_body_bytes:
        raise BodyTooLarge(
            f"The body has {len(body)} bytes; the maximum is {limits.max_body_bytes}."
            " Send fewer documents per request."
        )
    check_values(body, limits.max_values)
    # Some Windows clients send a byte order mark, which orjson rejects.
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise MalformedBody("The body is empty. Send a JSON object with query and documents.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # orjson rejects escaped lone surrogates, which JavaScript clients send if they cut a text
        # in the middle of an emoji; the slower stdlib parser accepts them.
        if b"\\ud" not in body and b"\\uD" not in body:
            raise MalformedBody(f"The body is not valid JSON: {error}.") from None
        value = _read_leniently(body)
    if not isinstance(value, dict):
        raise MalformedBody(f"The body must be a JSON object, not {json_type(value)}.")
    return value


def check_values(body: bytes, most: int) -> None:
    """Raise BodyTooLarge if the body has more than `most` values: each costs far more than a byte.

    A body of 10 MiB may hold millions, which take gigabytes and hold the interpreter for seconds.
    """
    if len(body) <= most or count_values(body) <= most:
        return
    # Texts contain brackets and commas too: leave the strings out.
    body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, inside = 0, 0
    for start in range(0, len(body), _SLICE):
        parts = body[start : start + _SLICE].split(b'"')
        count += sum(map(count_values, parts[inside::2]))
        inside = (inside + len(parts) - 1) % 2
    if count > most:
        raise BodyTooLarge(
            f"The body has too many values: {count} lists, objects, fields and items; the maximum "
            f"is {most}. Send fewer documents per request."
        )


def count_values(text: bytes) -> int:
    """Return the number of lists, objects, fields and items, and of the same marks in strings."""
    return len(text) - len(text.translate(None, b"[{:,"))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("", "application/json") or kind.endswith("+json")


def _read_leniently(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_bounded_int,
        )
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise MalformedBody(f"The body is not valid JSON: {reason}.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError("number is out of range")
    return value


def _bounded_int(digits: str) -> int | float:
    # Like orjson: integers over 64 bits become floats, which can be written again.
    return int(digits) if len(digits) < 19 else _finite(digits)
