"""Access control at the start: are the keys good, and does anybody get in without one?"""

from __future__ import annotations

import ipaddress

from serve_app.access.keyring import KeyRing
from serve_app.access.keys import KeysError
from serve_app.settings import Settings, SettingsError


def ring_of(settings: Settings) -> KeyRing | None:
    """The keys that the settings name; None where no key is needed. Raises KeysError."""
    if not settings.access.api_keys and settings.access.api_keys_file is None:
        return None
    return KeyRing(settings.access.api_keys, settings.access.api_keys_file)


def check_keys(settings: Settings) -> None:
    """Raises SettingsError where the keys can't be read."""
    try:
        ring_of(settings)
    except KeysError as error:
        name = "api_keys (RERANKER_API_KEYS)"
        if settings.access.api_keys_file is not None:
            name = "api_keys_file (RERANKER_API_KEYS_FILE)"
        raise SettingsError(f"{name}: {error}") from None


def warning_for(host: str, settings: Settings) -> str | None:
    """What to say where others than this machine reach a service that asks for no key."""
    if settings.access.api_keys or settings.access.api_keys_file is not None or _is_loopback(host):
        return None
    return (
        f"listening on {host} WITHOUT API KEYS: whoever reaches this address can use the service. "
        "Set RERANKER_API_KEYS_FILE (`rerank key` makes a key; docs/access.md), or listen on "
        "127.0.0.1 alone."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def http_host() -> str | None:
    """Where Serve's HTTP server listens, asked within a replica; None where it can't be known."""
    from ray.serve.context import _get_global_client

    try:
        host: str | None = _get_global_client().http_config.host
    except Exception:  # Ray has no public way to ask, and a warning is not worth a failed start
        return None
    return host
