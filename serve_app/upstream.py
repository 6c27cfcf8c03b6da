"""A provider's failure as the service's caller gets it."""

from __future__ import annotations

import math

from models.remote.errors import (
    RemoteError,
    RemoteRateLimited,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnavailable,
)
from serve_app.errors import (
    RerankError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

# Any other kind is a 502.
_ERRORS: tuple[tuple[type[RemoteError], type[RerankError]], ...] = (
    (RemoteRefused, UpstreamRefused),
    (RemoteRateLimited, UpstreamRateLimited),
    (RemoteUnavailable, UpstreamUnavailable),
    (RemoteTimeout, UpstreamTimeout),
)


def to_client(error: RemoteError) -> RerankError:
    """The error as the service's caller gets it."""
    kind = next((ours for theirs, ours in _ERRORS if isinstance(error, theirs)), UpstreamFailed)
    answer = kind(str(error))
    if error.retry_after_s is not None and kind.retry_after_s is not None:
        answer.retry_after_s = max(1, math.ceil(error.retry_after_s))
    return answer
