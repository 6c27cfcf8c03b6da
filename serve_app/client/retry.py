"""When a failed request is sent again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from serve_app.errors import RerankError

# Of what may pass. Ranking changes nothing at the server, so sending twice does no harm.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
# Scores that are not finite and answers that are none come out the same the next time.
_FINAL = frozenset({"scoring_failed", "bad_answer"})


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` more tries, with pauses that double from `base_s` to `cap_s`, and jitter.

    A Retry-After is waited for where it is at most `max_retry_after_s`; beyond that the error
    is raised at once. All times in seconds.
    """

    attempts: int = 3
    base_s: float = 0.25
    cap_s: float = 8.0
    max_retry_after_s: float = 60.0

    def pause(self, tried: int, error: RerankError) -> float | None:
        """Seconds to wait after `tried` failed tries; None where there is no further one."""
        final = error.code in _FINAL or error.status not in _PASSING
        if final or tried > self.attempts:
            return None
        ceiling = min(self.cap_s, self.base_s * 2 ** (tried - 1))
        if error.retry_after_s is None:
            # Between half and the whole, so that clients that failed together come apart.
            return random.uniform(ceiling / 2, ceiling)
        if error.retry_after_s > self.max_retry_after_s:
            return None
        return error.retry_after_s + random.uniform(0, ceiling)
