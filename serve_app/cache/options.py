"""What the settings of the shared store may be."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_SCHEMES = ("redis", "rediss", "unix")


def _installed(enabled: bool) -> bool:
    if enabled and find_spec("redis") is None:
        raise ValueError("the client is not installed: pip install 'rerank-serve[redis]'")
    return enabled


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        whole = bool(parts.path) if parts.scheme == "unix" else bool(parts.hostname)
        known = parts.scheme in _SCHEMES and whole and (parts.port is None or parts.port > 0)
        database = parts.path.strip("/")
        numbered = parts.scheme == "unix" or not database or database.isdecimal()
    except ValueError:
        known = numbered = False
    if not (known and numbered):
        # The address itself is not shown: it may hold a password.
        raise ValueError(
            "must be redis://[user:password@]host[:port][/number], rediss://… or unix:///path"
        )
    return url


RedisEnabled = Annotated[bool, AfterValidator(_installed)]
RedisUrl = Annotated[str, AfterValidator(_url)]
