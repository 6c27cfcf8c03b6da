"""The settings of access control."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from serve_app.access.keys import MAX_PER_MINUTE, hashed
from serve_app.pricing import Price
from serve_app.settings.base import Frozen, env

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+")


def _split(value: object) -> object:
    """Text from the environment is a list with commas; YAML has lists of its own."""
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not parts:
        raise ValueError("there is nothing between the commas")
    return parts


def _hash(value: tuple[str, ...]) -> tuple[str, ...]:
    keys = hashed(value)
    if value and not keys:
        raise ValueError("there is no key in it")
    return keys


def _routes(value: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [route for route in value if not route.startswith("/")]:
        raise ValueError(f"a route begins with a slash, and {wrong[0]!r} does not")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [origin for origin in value if not _ORIGIN.fullmatch(origin)]:
        raise ValueError(
            f"an origin is *, or like https://app.example with no path; {wrong[0]!r} is neither"
        )
    return value


def _absolute(value: str) -> str:
    # The replica that reads it works in another folder.
    return str(Path(value).expanduser().absolute())


# Only hashes are kept: settings are pickled, and shown where something fails.
KeyEntries = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_hash)]
Routes = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_routes)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_origins)]
KeyFile = Annotated[str, AfterValidator(_absolute)]
PerMinute = Annotated[int, Field(ge=0, le=MAX_PER_MINUTE)]


class AccessSettings(Frozen):
    """Who may call the service, and how often (docs/access.md)."""

    api_keys: KeyEntries = env(
        "RERANKER_API_KEYS",
        (),
        "Keys that clients send, separated by commas (docs/access.md); empty, and no file: "
        "no key is needed.",
        repr=False,
    )
    api_keys_file: KeyFile | None = env(
        "RERANKER_API_KEYS_FILE",
        None,
        "A file of keys, one a line (docs/access.md); read again when it changes.",
    )
    open_routes: Routes = env(
        "RERANKER_OPEN_ROUTES",
        ("/docs", "/openapi.json"),
        "Routes that are read without a key, beside /health and /ready; separated by commas.",
    )
    rate_limit_rpm: PerMinute = env(
        "RERANKER_RATE_LIMIT_RPM",
        0,
        "Requests a minute of each key that has no limit of its own; without keys, of all "
        "together; 0: no limit.",
    )
    rate_limit_tpm: PerMinute = env(
        "RERANKER_RATE_LIMIT_TPM",
        0,
        "The same for tokens that are scored.",
    )
    cors_origins: Origins = env(
        "RERANKER_CORS_ORIGINS",
        (),
        "Origins whose pages may call the service, separated by commas, or `*`; empty: none.",
    )
    prices: Mapping[str, Price] = env(
        "RERANKER_PRICES",
        {},
        "What models cost, for `/v1/usage` (JSON in the environment): each one's "
        "`per_million_tokens`, `per_thousand_requests`.",
    )
