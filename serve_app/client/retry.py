"""When a failed request is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from serve_app.errors import RerankError

# Statuses of temporary failures. Ranking has no side effects, so repeating a request is safe.
_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})
# Non-finite scores and invalid responses would come back the same.
_NOT_RETRYABLE = frozenset({"scoring_failed", "bad_answer"})


@dataclass(frozen=True, slots=True)
class Retry:
    """Up to `attempts` retries, with pauses that double from `base_s` to `cap_s`, with jitter.

    A Retry-After of up to `max_retry_after_s` is honoured; a longer one raises the error
    immediately. All times are in seconds.
    """

    attempts: int = 3
    base_s: float = 0.25
    cap_s: float = 8.0
    max_retry_after_s: float = 60.0

    def pause(self, tried: int, error: RerankError) -> float | None:
        """Return the seconds to wait after `tried` failed attempts; None means give up."""
        final = error.code in _NOT_RETRYABLE or error.status not in _RETRYABLE
        if final or tried > self.attempts:
            return None
        ceiling = min(self.cap_s, self.base_s * 2 ** (tried - 1))
        if error.retry_after_s is None:
            # Jitter, so that clients that failed together do not retry together.
            return random.uniform(ceiling / 2, ceiling)
        if error.retry_after_s > self.max_retry_after_s:
            return None
        return error.retry_after_s + random.uniform(0, ceiling)
