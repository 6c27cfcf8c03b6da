"""Faults under load: no response is lost or wrong, and abandoned work is not run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import environment
from tests.programs import need

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
QUICK = (
    "replica_killed",
    "replica_hangs",
    "reconfigured",
    "redis_killed",
    "clients_gone",
    "late_in_the_replica",
)
SLOW = (
    "ingress_killed",
    "ingress_killed_with_large_requests",
    "rolling_update",
    "controller_killed",
)
Seen = dict[str, dict[str, Any]]


def _run(*scenarios: str, ingresses: int = 1, traffic: str = "auto") -> Seen:
    """Run the scenarios one after the other on one cluster; return what the driver saw."""
    need("redis-server")  # the driver, another process, cannot skip a test
    # A short path, since the length of Ray's socket paths is limited.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "out.json"
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.faults.driver", *scenarios, str(out)],
            cwd=ROOT,
            env=environment(
                FAULTS_FOLDER=folder,
                FAULTS_INGRESSES=str(ingresses),
                FAULTS_TRAFFIC=traffic,
                RAY_TMPDIR=folder,
                RAY_AUTH_MODE="disabled",
                RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
                PYTHONPATH=str(ROOT),
            ),
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
        seen: Seen = json.loads(out.read_text())
        return seen


def _nothing_lost(seen: dict[str, Any], *, but: int = 0) -> None:
    assert seen["wrong"] == 0
    assert len(seen["failed"]) <= but, seen["failed"]
    assert seen["answered"] > 0


@pytest.fixture(scope="module")
def quick() -> Seen:
    return _run(*QUICK)


def test_no_request_is_lost_if_replicas_are_killed(quick: Seen) -> None:
    seen = quick["replica_killed"]
    _nothing_lost(seen)
    assert seen["statuses"] == {"200": seen["answered"]}
    assert seen["reported"] > 0  # calls to killed replicas were retried


def test_a_hanging_replica_exits_and_requests_waiting_for_it_are_retried(quick: Seen) -> None:
    seen = quick["replica_hangs"]
    # The call that hung is not tried on another replica, unless it was merged with others.
    _nothing_lost(seen, but=1)
    assert all("RERANKER_HANG_TIMEOUT" in problem for problem in seen["failed"])
    failed = len(seen["failed"])
    assert seen["statuses"] == {"200": seen["answered"], **({"500": failed} if failed else {})}
    assert seen["reported"] > quick["replica_killed"]["reported"]
    assert 2 < seen["slowest_s"] < 30


def test_batch_options_can_be_changed_in_running_replicas(quick: Seen) -> None:
    seen = quick["reconfigured"]
    _nothing_lost(seen)
    assert seen["same"]
    assert seen["merged"] > 2


def test_requests_succeed_without_redis(quick: Seen) -> None:
    _nothing_lost(quick["redis_killed"])


def test_abandoned_work_is_never_run(quick: Seen) -> None:
    seen = quick["clients_gone"]
    _nothing_lost(seen)
    assert sorted(seen["left"]) == ["gone left"] * 10 + ["late 504"] * 10
    assert seen["forwarded_dead"] == 0
    assert seen["forwarded"] < 1000  # of 2000
    by_status = next(iter(seen["responses"].values()))
    assert (by_status["499"], by_status["504"]) == (10, 10)


def test_a_replica_drops_late_and_cancelled_calls(quick: Seen) -> None:
    seen = quick["late_in_the_replica"]
    assert (seen["answered"], seen["refused"], seen["forwarded_dead"]) == (800, 10, 0)
    assert seen["dropped"] >= 10  # some of the cancelled ones had not arrived yet


@pytest.fixture(scope="module")
def slow() -> Seen:
    return _run(*SLOW, ingresses=2)


def test_haproxy_retries_the_requests_of_a_dead_ingress_on_another(slow: Seen) -> None:
    seen = slow["ingress_killed"]
    _nothing_lost(seen)
    # In rare cases the connection to the ingress is reset, and HAProxy closes the client's.
    assert seen["retries"] <= 1
    assert set(seen["statuses"]) <= {"200", "RemoteProtocolError", "ReadError"}


def test_a_request_too_large_for_haproxy_to_retry_is_retried_by_the_client(slow: Seen) -> None:
    _nothing_lost(slow["ingress_killed_with_large_requests"])


def test_a_rolling_update_loses_no_request(slow: Seen) -> None:
    seen = slow["rolling_update"]
    _nothing_lost(seen)
    assert seen["replaced"]


def test_the_service_keeps_running_without_its_controller(slow: Seen) -> None:
    _nothing_lost(slow["controller_killed"])


def test_serves_own_proxy_also_notices_disconnected_clients() -> None:
    seen = _run("ingress_killed_retried", "clients_gone", ingresses=2, traffic="proxy")
    _nothing_lost(seen["ingress_killed_retried"])
    assert seen["clients_gone"]["forwarded_dead"] == 0


def test_no_request_is_lost_if_a_node_goes_down() -> None:
    _nothing_lost(_run("node_removed")["node_removed"])
