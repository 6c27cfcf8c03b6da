"""What every dialect shares: what it is, reading a JSON body, writing one."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from serve_app.errors import (
    BodyTooLarge,
    InvalidRequest,
    MalformedBody,
    RerankError,
    UnsupportedMediaType,
)
from serve_app.types import RerankRequest, RerankResult

_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRequest(InvalidRequest):
    """A required field is missing or empty: Cohere answers 400 to these, not 422."""

    status = 400


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused at once, before it costs memory or a forward pass."""

    max_documents: int = 10_000
    max_body_bytes: int = 10 * 2**20
    max_query_chars: int = 100_000
    image_urls: bool = False


class Dialect(Protocol):
    """A wire format: a body becomes a request; a result or an error becomes a body."""

    @property
    def name(self) -> str: ...

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest: ...

    def render(self, result: RerankResult, request: RerankRequest) -> bytes: ...

    def error(self, error: RerankError, request_id: str) -> bytes: ...


def read_json(body: bytes, content_type: str | None, limits: Limits) -> dict[str, Any]:
    """The JSON object in `body`. Raises UnsupportedMediaType, BodyTooLarge or MalformedBody."""
    if content_type and not _is_json(content_type):
        raise UnsupportedMediaType("Send the body as Content-Type: application/json.")
    if len(body) > limits.max_body_bytes:
        raise BodyTooLarge(
            f"The body has {len(body)} bytes; at most {limits.max_body_bytes} are accepted."
            " Send fewer documents per request."
        )
    # Some Windows clients send a byte order mark, which orjson refuses.
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise MalformedBody("The body is empty. Send a JSON object with query and documents.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # orjson refuses escaped lone surrogates, which JavaScript clients do send when they cut
        # a text in the middle of an emoji; the slower stdlib parser takes them.
        if b"\\ud" not in body and b"\\uD" not in body:
            raise MalformedBody(f"The body is not valid JSON: {error}.") from None
        value = _read_leniently(body)
    if not isinstance(value, dict):
        raise MalformedBody(f"The body must be a JSON object, not {json_type(value)}.")
    return value


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
    # As orjson does it: what 64 bits can't hold becomes a float, and can be written again.
    return int(digits) if len(digits) < 19 else _finite(digits)


def dumps(payload: Any) -> bytes:
    """JSON bytes. Lone surrogates, which UTF-8 can't hold, become U+FFFD."""
    try:
        return orjson.dumps(payload)
    except TypeError:
        return orjson.dumps(_without_surrogates(payload))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(v) for v in value]
    return value


def json_type(value: Any) -> str:
    """The JSON name of a value's type, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, Mapping) else "a list"
