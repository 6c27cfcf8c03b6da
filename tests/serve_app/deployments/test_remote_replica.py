"""Failures of providers as errors for clients."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from models.remote.errors import (
    RemoteAnswerError,
    RemoteNotFound,
    RemoteRateLimited,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnauthorized,
    RemoteUnavailable,
)
from serve_app.deployments.remote_replica import to_client
from serve_app.errors import (
    RerankError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)


@pytest.mark.parametrize(
    ("error", "kind", "status", "retry_after_s"),
    [
        (RemoteRefused("no"), UpstreamRefused, 422, None),
        (RemoteRateLimited("no", retry_after_s=6.2), UpstreamRateLimited, 429, 7),
        (RemoteUnauthorized("no"), UpstreamFailed, 502, None),
        (RemoteNotFound("no"), UpstreamFailed, 502, None),
        (RemoteAnswerError("no"), UpstreamFailed, 502, None),
        (RemoteUnavailable("no"), UpstreamUnavailable, 503, 5),
        (RemoteUnavailable("no", retry_after_s=0.1), UpstreamUnavailable, 503, 1),
        (RemoteTimeout("no"), UpstreamTimeout, 504, None),
    ],
)
def test_a_providers_failure_becomes_an_error_for_the_client(
    error: Any, kind: type[RerankError], status: int, retry_after_s: int | None
) -> None:
    for answer in (to_client(error), pickle.loads(pickle.dumps(to_client(error)))):
        assert type(answer) is kind
        assert (answer.status, answer.retry_after_s, answer.message) == (
            status,
            retry_after_s,
            "no",
        )
