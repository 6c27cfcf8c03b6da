"""What the dialects share: their interface, request limits, and JSON output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from models.text import well_formed
from serve_app.errors import RerankError
from serve_app.types import RerankRequest, RerankResult


@dataclass(frozen=True, slots=True)
class Limits:
    """Request limits, checked before a request costs memory or a forward pass."""

    max_documents: int = 10_000
    max_body_bytes: int = 10 * 2**20
    max_query_chars: int = 100_000
    image_urls: bool = False

    @property
    def max_values(self) -> int:
        """Lists, objects, fields and separators in a body: what makes it slow to parse."""
        return max(1_000_000, 100 * self.max_documents)


class Dialect(Protocol):
    """A wire format: parses a body into a request, renders a result or an error as a body."""

    @property
    def name(self) -> str: ...

    def parse(self, body: Mapping[str, Any], limits: Limits) -> RerankRequest: ...

    def render(self, result: RerankResult, request: RerankRequest) -> bytes: ...

    def error(self, error: RerankError, request_id: str) -> bytes: ...

    def status(self, error: RerankError) -> int:
        """The HTTP status that clients of this format expect for the error."""
        ...


# One query of a batch: the request to rank, or the error it is rejected with.
Query = RerankRequest | RerankError
Outcome = RerankResult | RerankError


class ManyDialect(ABC):
    """A wire format whose body holds several queries."""

    name: str

    @abstractmethod
    def parse_all(self, body: Mapping[str, Any], limits: Limits) -> Sequence[Query]:
        """Return a request or an error per query. Raises a RerankError that affects all."""

    @abstractmethod
    def render_all(
        self, calls: Sequence[Query], outcomes: Sequence[Outcome], body: Mapping[str, Any]
    ) -> bytes:
        """Return the response. Raises a query's error if the format has no field for it."""

    @abstractmethod
    def error(self, error: RerankError, request_id: str) -> bytes: ...

    @abstractmethod
    def status(self, error: RerankError) -> int: ...


Wire = Dialect | ManyDialect


def dumps(payload: Any) -> bytes:
    """Return JSON bytes. Lone surrogates, which UTF-8 can't encode, become U+FFFD."""
    try:
        return orjson.dumps(payload)
    except TypeError:
        return orjson.dumps(_without_surrogates(payload))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
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
