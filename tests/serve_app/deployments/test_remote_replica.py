"""Failures of providers as errors for clients."""

from __future__ import annotations

import pickle
from typing import Any
from unittest.mock import Mock

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
from models.remote.types import RemoteSpec
from serve_app.deployments import metrics_hub, scoring_replica
from serve_app.deployments.metrics_hub import MetricsHub, key_of
from serve_app.deployments.remote_replica import RemoteReplica, to_client
from serve_app.errors import (
    RerankError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.waiting import until


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


async def test_a_stopped_replica_has_reported_and_closed_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_hub, "RayMetrics", Mock)
    monkeypatch.setattr(scoring_replica, "match_console_format", lambda: None)
    hub, handle = MetricsHub(), Mock()
    handle.report.remote = hub.report
    spec = RemoteSpec("hosted", "tei", base_url="http://127.0.0.1:9")
    replica = RemoteReplica.__new__(RemoteReplica)
    await replica.__init__(spec, handle)  # type: ignore[misc]  # as Ray Serve does
    await until(lambda: key_of(spec) in hub._models)
    client = replica._scorer._connection.transport._client  # type: ignore[attr-defined]
    replica._figures.add("upstream_seconds", 1.0)
    stopping = replica.__del__()
    assert stopping is not None
    await stopping
    assert client.is_closed
    (snapshot,) = [s for s in await hub.snapshots() or [] if s.replicas]
    assert snapshot.distributions["hosted", "upstream_seconds"].total == 1
    assert replica.__del__() is None
