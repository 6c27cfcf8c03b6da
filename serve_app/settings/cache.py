"""The settings of what is kept: scores, in memory and in Redis, and representations."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from serve_app.settings.base import Frozen, env

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


class StoreSettings(Frozen):
    """What is kept, where, and for how long (docs/cache.md)."""

    cache: bool = env("ENABLE_PREDICTION_CACHE", True, "Keep scores by pair.")
    cache_ttl_s: float = env("CACHE_TTL_SECONDS", 3600.0, "Seconds a score is kept.", gt=0)
    cache_max_bytes: int = env(
        "CACHE_MAX_BYTES", 256 * 2**20, "Bytes of memory that kept scores may take.", ge=0
    )
    clear_cache_interval_s: float = env(
        "CLEAR_CACHE_INTERVAL", 0.0, "Seconds between emptying the cache; 0: never.", ge=0
    )
    representation_cache_bytes: int = env(
        "RERANKER_REPRESENTATION_CACHE_BYTES",
        256 * 2**20,
        "Bytes of memory that each replica of a bi-encoder or a late-interaction model may take "
        "for what documents became in it (docs/cache.md); 0: none.",
        ge=0,
    )
    redis_enabled: RedisEnabled = env(
        "REDIS_ENABLED", False, "Share scores with other servers by Redis (docs/cache.md)."
    )
    redis_url: RedisUrl = env(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "Where Redis is: redis://, rediss:// (TLS) or unix://.",
        repr=False,
    )
    redis_ttl_s: float = env(
        "REDIS_TTL_SECONDS", 86_400.0, "Seconds that Redis keeps a score.", ge=0.001
    )
    redis_key_prefix: str = env(
        "REDIS_KEY_PREFIX", "rerank", "What each key in Redis begins with.", min_length=1
    )
    redis_read_timeout_ms: float = env(
        "REDIS_READ_TIMEOUT_MS", 20.0, "Milliseconds a request waits for Redis.", gt=0, le=10_000
    )
    redis_wait_ms: float = env(
        "REDIS_WAIT_MS",
        1000.0,
        "Milliseconds to wait for another server that scores the same pairs, while none of them "
        "comes; 0: don't.",
        ge=0,
        le=60_000,
    )
    redis_write_queue: int = env(
        "REDIS_WRITE_QUEUE", 50_000, "Pairs that may wait to be written; more are dropped.", ge=0
    )
