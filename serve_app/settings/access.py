"""Who may call the service, and how often."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from serve_app.access.keys import MAX_PER_MINUTE, hashed
from serve_app.pricing import Price
from serve_app.settings.base import Frozen, setting, split

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+")


def _hash(value: tuple[str, ...]) -> tuple[str, ...]:
    keys = hashed(value)
    if value and not keys:
        raise ValueError("must contain at least one key")
    return keys


def _routes(value: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [route for route in value if not route.startswith("/")]:
        raise ValueError(f"{wrong[0]!r} is not a route: it must start with a slash")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [origin for origin in value if not _ORIGIN.fullmatch(origin)]:
        raise ValueError(
            f"{wrong[0]!r} is not an origin: it must be *, or like https://app.example without a "
            "path"
        )
    return value


def _absolute(value: str) -> str:
    # The replica that reads the file runs in another folder.
    return str(Path(value).expanduser().absolute())


# Only hashes are kept: settings are pickled, and may be shown in errors.
KeyEntries = Annotated[tuple[str, ...], BeforeValidator(split), AfterValidator(_hash)]
Routes = Annotated[tuple[str, ...], BeforeValidator(split), AfterValidator(_routes)]
Origins = Annotated[tuple[str, ...], BeforeValidator(split), AfterValidator(_origins)]
KeyFile = Annotated[str, AfterValidator(_absolute)]
PerMinute = Annotated[int, Field(ge=0, le=MAX_PER_MINUTE)]


class AccessSettings(Frozen):
    """Who may call the service, and how often (docs/access.md)."""

    api_keys: KeyEntries = setting(
        "RERANKER_API_KEYS",
        (),
        "API keys of clients, separated by commas. With neither keys nor a file of keys, clients "
        "need none.",
        repr=False,
    )
    api_keys_file: KeyFile | None = setting(
        "RERANKER_API_KEYS_FILE",
        None,
        "File of API keys, one per line; reloaded when it changes.",
    )
    open_routes: Routes = setting(
        "RERANKER_OPEN_ROUTES",
        ("/docs", "/openapi.json"),
        "Routes that can be read without a key, in addition to /health and /ready; separated by "
        "commas.",
    )
    rate_limit_rpm: PerMinute = setting(
        "RERANKER_RATE_LIMIT_RPM",
        0,
        "Maximum requests per minute for each key without a limit of its own, or without keys for "
        "all clients together; 0: no limit.",
    )
    rate_limit_tpm: PerMinute = setting(
        "RERANKER_RATE_LIMIT_TPM",
        0,
        "Maximum scored tokens per minute, for each key or all clients as above; 0: no limit.",
    )
    cors_origins: Origins = setting(
        "RERANKER_CORS_ORIGINS",
        (),
        "Origins whose pages may call the service, separated by commas, or `*`; unset: none.",
    )
    prices: Mapping[str, Price] = setting(
        "RERANKER_PRICES",
        {},
        "Prices by model, for the costs in `/v1/usage`: `per_million_tokens` and "
        "`per_thousand_requests`.",
        json=True,
    )
