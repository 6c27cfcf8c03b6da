"""Limits on requests and tokens per minute, as buckets that refill at a steady rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

# Tolerance for rounding errors in levels.
_EPSILON = 1e-6


class Bucket:
    """A bucket that holds at most `per_minute` and refills at that rate.

    The level goes negative if a request costs more than is left. It must then refill before the
    next request is admitted, so the average rate holds.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self.capacity = per_minute
        self._level = float(per_minute)
        self._updated_at = now

    def level(self, now: float) -> float:
        if now > self._updated_at:
            filled = self._level + (now - self._updated_at) * self.capacity / 60
            self._level = min(float(self.capacity), filled)
            self._updated_at = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take `amount`; a negative amount is a refund."""
        self._level = min(float(self.capacity), self.level(now) - amount)

    def resize(self, per_minute: int, now: float) -> None:
        self._level = min(self.level(now), float(per_minute))
        self.capacity = per_minute

    def has_one(self, now: float) -> bool:
        return self.level(now) >= 1 - _EPSILON

    def remaining(self, now: float) -> int:
        return max(0, math.floor(self.level(now) + _EPSILON))

    def wait_s(self, now: float) -> int:
        """Whole seconds, at least 1, until the level is 1 again."""
        return max(1, math.ceil((1 - self.level(now)) * 60 / self.capacity - _EPSILON))

    def reset_s(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return (self.capacity - self.level(now)) * 60 / self.capacity


@dataclass(slots=True)
class Budget:
    """One client's buckets; None means no limit."""

    requests: Bucket | None = None
    tokens: Bucket | None = None

    def headers(self, now: float) -> dict[str, str]:
        """OpenAI's headers for each bucket, and unsuffixed ones for the bucket closer to empty."""
        found: dict[str, str] = {}
        buckets = {"requests": self.requests, "tokens": self.tokens}
        limited = {what: bucket for what, bucket in buckets.items() if bucket is not None}
        for what, bucket in limited.items():
            found[f"x-ratelimit-limit-{what}"] = str(bucket.capacity)
            found[f"x-ratelimit-remaining-{what}"] = str(bucket.remaining(now))
            found[f"x-ratelimit-reset-{what}"] = duration(bucket.reset_s(now))
        if limited:
            tightest = min(limited.values(), key=lambda b: b.level(now) / b.capacity)
            found["x-ratelimit-limit"] = str(tightest.capacity)
            found["x-ratelimit-remaining"] = str(tightest.remaining(now))
            found["x-ratelimit-reset"] = str(math.ceil(tightest.reset_s(now) - _EPSILON))
        return found


# All names that `Budget.headers` may return; CORS exposes them to scripts.
HEADER_NAMES = tuple(
    f"x-ratelimit-{part}{what}"
    for what in ("", "-requests", "-tokens")
    for part in ("limit", "remaining", "reset")
)


class Limiter:
    """Each client's budget, by name; clients without a key share one."""

    def __init__(self, rpm: int, tpm: int, clock: Callable[[], float]) -> None:
        """`rpm` and `tpm` apply to clients without limits of their own; 0 is no limit."""
        self._rpm, self._tpm = rpm, tpm
        self._clock = clock
        self._budgets: dict[str, Budget] = {}

    def budget(self, name: str, rpm: int | None, tpm: int | None) -> Budget:
        """The client's budget, updated to its current limits."""
        budget = self._budgets.setdefault(name, Budget())
        budget.requests = self._resized(budget.requests, self._rpm if rpm is None else rpm)
        budget.tokens = self._resized(budget.tokens, self._tpm if tpm is None else tpm)
        return budget

    def keep_only(self, names: Collection[str]) -> None:
        """Drop the budgets of all other clients."""
        self._budgets = {n: budget for n, budget in self._budgets.items() if n in names}

    def _resized(self, bucket: Bucket | None, per_minute: int) -> Bucket | None:
        if not per_minute:
            return None
        if bucket is None:
            return Bucket(per_minute, self._clock())
        if bucket.capacity != per_minute:
            bucket.resize(per_minute, self._clock())
        return bucket


def duration(seconds: float) -> str:
    """A duration in OpenAI's format: `0s`, `250ms`, `12s`, `6m0s`."""
    ms = math.ceil(seconds * 1000 - _EPSILON)
    if 0 < ms < 1000:
        return f"{ms}ms"
    whole = -(-ms // 1000)
    hours, minutes = f"{whole // 3600}h", f"{whole // 60 % 60}m"
    longer = (hours if whole >= 3600 else "") + (minutes if whole >= 60 else "")
    return f"{longer}{whole % 60}s"
