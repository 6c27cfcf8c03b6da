"""Access checks at startup: API keys are valid, and a public address without keys is reported."""

from __future__ import annotations

import ipaddress

from serve_app.access.keyring import KeyRing
from serve_app.access.keys import KeysError
from serve_app.settings import Settings, SettingsError


def ring_of(settings: Settings) -> KeyRing | None:
    """The API keys from the settings; None if no key is required. Raises KeysError."""
    if not settings.access.api_keys and settings.access.api_keys_file is None:
        return None
    return KeyRing(settings.access.api_keys, settings.access.api_keys_file)


def check_keys(settings: Settings) -> None:
    """Raise SettingsError if the keys can't be read."""
    try:
        ring_of(settings)
    except KeysError as error:
        name = "api_keys (RERANKER_API_KEYS)"
        if settings.access.api_keys_file is not None:
            name = "api_keys_file (RERANKER_API_KEYS_FILE)"
        raise SettingsError(f"{name}: {error}") from None


def exposure_warning(host: str, settings: Settings) -> str | None:
    """The warning for a service without keys that listens on more than the loopback interface."""
    if settings.access.api_keys or settings.access.api_keys_file is not None or _is_loopback(host):
        return None
    return (
        f"listening on {host} WITHOUT API KEYS: anyone who can reach this address can use the "
        "service. Set RERANKER_API_KEYS_FILE (`rerank key` creates a key, see docs/access.md), or "
        "listen only on 127.0.0.1."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def http_host() -> str | None:
    """The address that Serve's HTTP server listens on, seen from a replica; None if unknown."""
    from ray.serve.context import _get_global_client

    try:
        host: str | None = _get_global_client().http_config.host
    except Exception:  # a private Ray API, used only for a warning: it must not fail the startup
        return None
    return host
