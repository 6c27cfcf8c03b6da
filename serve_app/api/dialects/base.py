"""What every dialect shares: what it is, the bounds on what it accepts, writing JSON."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult

_SURROGATE = re.compile("[\ud800-\udfff]")


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

    def status(self, error: RerankError) -> int:
        """The HTTP status that this format's clients know the error by."""
        ...


# One of a batch's queries: the request to rank, or the error that says why it is refused.
Query = RerankRequest | RerankError
Outcome = RerankResult | RerankError


class ManyDialect(ABC):
    """A wire format whose body holds several queries."""

    name: str

    @abstractmethod
    def parse_all(self, body: Mapping[str, Any], limits: Limits) -> Sequence[Query]:
        """A call for each query. Raises a RerankError that concerns them all."""

    @abstractmethod
    def render_all(
        self, calls: Sequence[Query], outcomes: Sequence[Outcome], body: Mapping[str, Any]
    ) -> bytes:
        """The answer. Raises the error of a query, where the format has no place for it."""

    @abstractmethod
    def error(self, error: RerankError, request_id: str) -> bytes: ...

    @abstractmethod
    def status(self, error: RerankError) -> int: ...


Wire = Dialect | ManyDialect


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
