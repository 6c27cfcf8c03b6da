"""The faults caused while clients send requests, and what was seen."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

from tests.e2e.faults.load import Load
from tests.e2e.faults.replica import folder

if TYPE_CHECKING:
    from tests.e2e.faults.driver import Service

Seen = dict[str, Any]
Left = dict[str, tuple[str, float]]  # by request: how and when it ended for its client
NOTICED_S = 0.6  # maximum time until a model notices a disconnected client


def replicas() -> list[int]:
    """The process IDs of running model replicas."""
    names = (path.name.removeprefix("replica-") for path in folder().glob("replica-*"))
    return [int(pid) for pid in names if Path(f"/proc/{pid}").exists()]


def actors(what: str) -> list[int]:
    """The process IDs of this run's actors, by Ray's names of the processes."""
    own = f"FAULTS_FOLDER={folder()}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name = (process / "cmdline").read_bytes().decode(errors="replace")
            if name.startswith("ray::") and what in name:
                variables = (process / "environ").read_bytes().split(b"\0")
                found += [int(process.name)] if own in variables else []
        except OSError:
            continue
    return found


class Forwarded(NamedTuple):
    """A document that was run through the model."""

    merged: int  # chunks in that forward pass
    at: float  # seconds since the epoch, when the pass began
    document: str


def forwarded() -> list[Forwarded]:
    lines = (line for path in folder().glob("forwarded-*") for line in path.open())
    fields = (line.rstrip("\n").split(" ", 2) for line in lines)
    return [Forwarded(int(merged), float(at), document) for merged, at, document in fields]


def _events(service: Service, name: str) -> int:
    """The number of these events in /metrics."""
    upstream: Mapping[str, Mapping[str, int]] = service.metrics()["upstream_by_model"]
    return sum(events.get(name, 0) for events in upstream.values())


def replica_killed(service: Service) -> Seen:
    with Load(service.url) as load:
        for pid in replicas():
            load.wait(100)
            os.kill(pid, signal.SIGKILL)
        load.wait(200)
    return load.seen.as_json() | {"reported": _events(service, "retries")}


def replica_hangs(service: Service) -> Seen:
    _wait_for(lambda: len(replicas()) == 2)
    before = set(replicas())
    with Load(service.url) as load:
        load.wait(50)
        (folder() / "hang").touch()
        # One client after the other reaches the hanging replica and waits until it exits.
        _wait_for(lambda: bool(before - set(replicas())), 60)
        load.wait(200)
    return load.seen.as_json() | {"reported": _events(service, "retries")}


def reconfigured(service: Service) -> Seen:
    _wait_for(lambda: len(replicas()) == 2)
    before = set(replicas())
    with Load(service.url, clients=8) as load:
        load.wait(100)
        service.user_config = {"window_ms": 30, "batch_tokens": 100_000}
        service.deploy()
        time.sleep(1)
        load.wait(200)
        merged = [one.merged for one in forwarded()]
    service.user_config = {"window_ms": 0}
    service.deploy()
    return load.seen.as_json() | {"same": before == set(replicas()), "merged": max(merged)}


def redis_killed(service: Service) -> Seen:
    with Load(service.url) as load:
        load.wait(100)
        service.redis.kill()
        load.wait(300)
    return load.seen.as_json()


def clients_gone(service: Service) -> Seen:
    """Ten clients that disconnect and ten that time out, while a request keeps both busy."""
    _wait_for(lambda: len(replicas()) == 2)
    blocker = {"query": "b", "documents": [f"blocker-{i}" for i in range(2000)]}
    with httpx.Client(timeout=60) as client, Load(service.url, clients=1) as load:
        load.wait(5)
        busy = threading.Thread(target=lambda: client.post(f"{service.url}/rerank", json=blocker))
        busy.start()
        time.sleep(0.4)
        asked = []
        left: Left = {}
        for i in range(10):
            for kind, headers in (("gone", {}), ("late", {"x-request-timeout-ms": "60"})):
                args = (service, f"{kind}-{i}", headers, left)
                asked.append(threading.Thread(target=_leave, args=args))
                asked[-1].start()
        for thread in (*asked, busy):
            thread.join()
    time.sleep(1.0)
    # Some may have run before they were abandoned, but none may run afterwards.
    ended = {name: at for name, (_, at) in left.items()}
    own = [(one.at, one.document.rpartition("-")[0]) for one in forwarded()]
    own = [(at, name) for at, name in own if name in ended]
    dead = [name for at, name in own if at > ended[name] + NOTICED_S]
    return load.seen.as_json() | {
        "forwarded": len(own),
        "forwarded_dead": len(dead),
        "responses": service.metrics()["requests_by_model"],
        "left": [f"{name.split('-')[0]} {how}" for name, (how, _) in left.items()],
    }


def _leave(service: Service, name: str, headers: dict[str, str], left: Left) -> None:
    """Send 100 documents without waiting for the result; note how and when it ended."""
    body = {"query": "blocked", "documents": [f"{name}-{i}" for i in range(100)]}
    timeout = 30 if headers else 0.06
    try:
        answer = httpx.post(f"{service.url}/rerank", json=body, headers=headers, timeout=timeout)
        left[name] = str(answer.status_code), time.time()
    except httpx.TimeoutException:
        left[name] = "left", time.time()


def late_in_the_replica(service: Service) -> Seen:
    """Calls by handle, without an ingress to cancel them: ten late, ten cancelled."""
    from models.types import DEFAULTS
    from serve_app.errors import DeadlineExceeded

    _wait_for(lambda: len(replicas()) == 2)
    score = service.model_handle().score
    # Short enough to be merged: long calls have threads of their own.
    busy = [score.remote(f"b{i}", [f"busy-{i}-{j}" for j in range(50)]) for i in range(16)]
    _wait_for(lambda: len({one.document for one in forwarded() if "busy-" in one.document}) >= 400)
    late = [score.remote("l", [f"late-by-handle-{i}"], DEFAULTS, 0.05) for i in range(10)]
    gone = [score.remote("g", [f"gone-by-handle-{i}"], DEFAULTS, 60.0) for i in range(10)]
    time.sleep(0.1)
    for call in gone:
        call.cancel()
    refused = 0
    for call in late:
        try:
            call.result(timeout_s=30)
        except DeadlineExceeded:
            refused += 1
    answered = sum(len(call.result(timeout_s=30)) for call in busy)
    dead = [one for one in forwarded() if "-by-handle-" in one.document]
    return {"answered": answered, "refused": refused, "forwarded_dead": len(dead)} | {
        "dropped": _events(service, "dropped")
    }


def ingress_killed(service: Service) -> Seen:
    with Load(service.url, retries=1) as load:
        load.wait(100)
        os.kill(actors("Ingress")[0], signal.SIGKILL)
        load.wait(400)
    return load.seen.as_json()


def ingress_killed_retried(service: Service) -> Seen:
    """With retries by clients, as behind Ray Serve's own proxy."""
    _wait_for(lambda: len(actors("Ingress")) == 2)
    with Load(service.url, retries=5) as load:
        load.wait(100)
        os.kill(actors("Ingress")[0], signal.SIGKILL)
        load.wait(200)
    return load.seen.as_json()


def ingress_killed_with_large_requests(service: Service) -> Seen:
    _wait_for(lambda: len(actors("Ingress")) == 2)
    with Load(service.url, retries=5, large=True) as load:
        load.wait(40)
        os.kill(actors("Ingress")[0], signal.SIGKILL)
        load.wait(100)
    return load.seen.as_json()


def controller_killed(service: Service) -> Seen:
    with Load(service.url) as load:
        load.wait(100)
        os.kill(actors("ServeController")[0], signal.SIGKILL)
        load.wait(600)
    return load.seen.as_json()


def rolling_update(service: Service) -> Seen:
    _wait_for(lambda: len(replicas()) == 2)
    before = set(replicas())
    with Load(service.url) as load:
        load.wait(100)
        service.args["max_retries"] = 4
        service.deploy()
        _wait_for(lambda: not before & set(replicas()), 60)
        load.wait(200)
    return load.seen.as_json() | {"replaced": not before & set(replicas())}


def _wait_for(met: Callable[[], bool], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not met():
        if time.monotonic() > deadline:
            raise AssertionError("the expected state was not reached")
        time.sleep(0.05)
