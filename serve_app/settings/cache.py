"""What is cached: scores in memory and in Redis, document representations in replicas."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from serve_app.settings.base import Frozen, setting

_SCHEMES = ("redis", "rediss", "unix")


def _installed(enabled: bool) -> bool:
    if enabled and find_spec("redis") is None:
        raise ValueError("the Redis client is not installed: run pip install 'rerank-serve[redis]'")
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
        # The URL itself is not shown: it may contain a password.
        raise ValueError(
            "must be redis://[user:password@]host[:port][/number], rediss://… or unix:///path"
        )
    return url


RedisEnabled = Annotated[bool, AfterValidator(_installed)]
RedisUrl = Annotated[str, AfterValidator(_url)]


class CacheSettings(Frozen):
    """What is cached, where, and for how long (docs/cache.md)."""

    enabled: bool = setting(
        "ENABLE_PREDICTION_CACHE", True, "Cache scores by query-document pair.", name="cache"
    )
    ttl_s: float = setting(
        "CACHE_TTL_SECONDS", 3600.0, "Seconds to keep a score in memory.", name="cache_ttl_s", gt=0
    )
    max_bytes: int = setting(
        "CACHE_MAX_BYTES",
        256 * 2**20,
        "Maximum bytes of scores in memory.",
        name="cache_max_bytes",
        ge=0,
    )
    clear_interval_s: float = setting(
        "CLEAR_CACHE_INTERVAL",
        0.0,
        "Seconds between clearing the scores in memory; 0: never.",
        name="clear_cache_interval_s",
        ge=0,
    )
    representation_bytes: int = setting(
        "RERANKER_REPRESENTATION_CACHE_BYTES",
        256 * 2**20,
        "Maximum bytes of document representations in memory, for each replica of a bi-encoder or "
        "late-interaction model; 0: none are cached.",
        name="representation_cache_bytes",
        ge=0,
    )
    redis_enabled: RedisEnabled = setting(
        "REDIS_ENABLED", False, "Share scores with other servers through Redis (extra `redis`)."
    )
    redis_url: RedisUrl = setting(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "URL of Redis: redis://, rediss:// (TLS) or unix://.",
        repr=False,
    )
    redis_ttl_s: float = setting(
        "REDIS_TTL_SECONDS", 86_400.0, "Seconds to keep a score in Redis.", ge=0.001
    )
    redis_key_prefix: str = setting(
        "REDIS_KEY_PREFIX", "rerank", "Prefix of every key in Redis.", min_length=1
    )
    redis_read_timeout_ms: float = setting(
        "REDIS_READ_TIMEOUT_MS",
        20.0,
        "Maximum milliseconds a request waits for Redis.",
        gt=0,
        le=10_000,
    )
    redis_wait_ms: float = setting(
        "REDIS_WAIT_MS",
        1000.0,
        "Milliseconds to wait for the next score from another server that is scoring the same "
        "pairs; 0: do not wait.",
        ge=0,
        le=60_000,
    )
    redis_write_queue: int = setting(
        "REDIS_WRITE_QUEUE",
        50_000,
        "Maximum pairs waiting to be written to Redis; further ones are dropped.",
        ge=0,
    )
