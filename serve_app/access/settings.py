"""The settings of access control."""

from __future__ import annotations

from collections.abc import Mapping

from serve_app.access.options import KeyEntries, KeyFile, Origins, PerMinute, Routes
from serve_app.pricing import Price
from serve_app.settings_base import Frozen, env


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
