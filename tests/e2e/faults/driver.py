"""Run by the tests in a process of its own: a cluster, the service on it, and faults under load.

`python -m tests.e2e.faults.driver SCENARIO… OUT`: writes what was seen of each as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.servers import free_port
from serve_app import traffic
from tests.e2e.faults.load import Load
from tests.e2e.faults.replica import folder
from tests.redis_server import RedisServer

APP = "rerank"
HANG_S = 3.0
Seen = dict[str, Any]


def build(args: Mapping[str, Any]) -> Any:
    """The application as `serve_app.app:build`, around the replica that keeps a record."""
    from serve_app.app import bind
    from serve_app.settings import load
    from tests.e2e.faults.replica import RecordedReplica

    return bind(load(args, {}), warn_if_exposed=False, replica=RecordedReplica)


class Service:
    """The service on a running cluster, deployed and changed as `serve deploy` does it."""

    def __init__(self, **args: Any) -> None:
        from ray import serve
        from ray.serve.context import _get_global_client

        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.args: dict[str, Any] = {"num_replicas": 2, "hang_timeout_s": HANG_S, **args}
        self.user_config: dict[str, Any] = {}
        serve.start(
            http_options={"host": "127.0.0.1", "port": self.port},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        self._client = _get_global_client()

    def deploy(self) -> None:
        """Raises where it does not come up."""
        from ray.serve.schema import ServeDeploySchema

        application: dict[str, Any] = {
            "name": APP,
            "route_prefix": "/",
            "import_path": "tests.e2e.faults.driver:build",
            "args": self.args,
            "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        }
        if self.user_config:
            application["deployments"] = [{"name": "Model-0", "user_config": self.user_config}]
        self._client.deploy_apps(
            ServeDeploySchema.model_validate({"applications": [application]}), _blocking=True
        )
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError("the service is not ready")

    def metrics(self) -> Seen:
        time.sleep(2.5)  # reports come every two seconds
        found: Seen = httpx.get(f"{self.url}/metrics", timeout=30).json()
        return found


def replicas() -> list[int]:
    """Process ids of living model replicas."""
    names = (path.name.removeprefix("replica-") for path in folder().glob("replica-*"))
    return [int(pid) for pid in names if Path(f"/proc/{pid}").exists()]


def actors(what: str) -> list[int]:
    """Process ids of this run's actors, as Ray names their processes."""
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


def forwarded() -> list[str]:
    return [line for path in folder().glob("forwarded-*") for line in path.read_text().splitlines()]


def _retries(service: Service) -> int:
    """As /metrics tells of them."""
    upstream = service.metrics()["upstream_by_model"]
    return sum(events.get("retries", 0) for events in upstream.values())


def replica_killed(service: Service) -> Seen:
    with Load(service.url) as load:
        for pid in replicas():
            load.wait(100)
            os.kill(pid, signal.SIGKILL)
        load.wait(200)
    return load.seen.as_json() | {"reported": _retries(service)}


def replica_hangs(service: Service) -> Seen:
    _wait_for(lambda: len(replicas()) == 2)
    before = set(replicas())
    with Load(service.url) as load:
        load.wait(50)
        (folder() / "hang").touch()
        # One client after the other comes to the replica that hangs, and waits for its end.
        _wait_for(lambda: bool(before - set(replicas())), 60)
        load.wait(200)
    return load.seen.as_json() | {"reported": _retries(service)}


def reconfigured(service: Service) -> Seen:
    _wait_for(lambda: len(replicas()) == 2)
    before = set(replicas())
    with Load(service.url, clients=8) as load:
        load.wait(100)
        service.user_config = {"window_ms": 30, "batch_tokens": 100_000}
        service.deploy()
        time.sleep(1)
        load.wait(200)
        merged = [int(line.split()[0]) for line in forwarded()]
    service.user_config = {"window_ms": 0}
    service.deploy()
    return load.seen.as_json() | {"same": before == set(replicas()), "merged": max(merged)}


def redis_killed(service: Service) -> Seen:
    with Load(service.url) as load:
        load.wait(100)
        _redis.kill()
        load.wait(300)
    return load.seen.as_json()


def clients_gone(service: Service) -> Seen:
    """Ten that leave at once and ten whose time is up, behind a request that keeps both busy."""
    _wait_for(lambda: len(replicas()) == 2)
    blocker = {"query": "b", "documents": [f"blocker-{i}" for i in range(2000)]}
    with httpx.Client(timeout=60) as client, Load(service.url, clients=1) as load:
        load.wait(5)
        import threading

        busy = threading.Thread(target=lambda: client.post(f"{service.url}/rerank", json=blocker))
        busy.start()
        time.sleep(0.4)
        asked = []
        for i in range(10):
            for kind, headers in (("gone", {}), ("late", {"x-request-timeout-ms": "60"})):
                body = {"query": "blocked", "documents": [f"{kind}-{i}-{j}" for j in range(100)]}
                asked.append(threading.Thread(target=_leave, args=(service, kind, body, headers)))
                asked[-1].start()
        for thread in (*asked, busy):
            thread.join()
    time.sleep(1.0)
    lines = [line.split()[1] for line in forwarded()]
    gone = [line for line in lines if line.startswith(("gone-", "late-"))]
    metrics = service.metrics()
    return load.seen.as_json() | {
        "forwarded_dead": len(gone),
        "dropped": sum(e.get("dropped", 0) for e in metrics["upstream_by_model"].values()),
        "responses": metrics["requests_by_model"],
        "left": _left,
    }


_left: list[str] = []


def _leave(service: Service, kind: str, body: Any, headers: dict[str, str]) -> None:
    timeout = 0.06 if kind == "gone" else 30
    try:
        answer = httpx.post(f"{service.url}/rerank", json=body, headers=headers, timeout=timeout)
        _left.append(f"{kind} {answer.status_code}")
    except httpx.TimeoutException:
        _left.append(f"{kind} left")


def ingress_killed(service: Service) -> Seen:
    with Load(service.url) as load:
        load.wait(100)
        os.kill(actors("Ingress")[0], signal.SIGKILL)
        load.wait(400)
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
            raise AssertionError("what was waited for has not come")
        time.sleep(0.05)


_redis: RedisServer


@contextmanager
def _cluster() -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        num_cpus=4,
        logging_level="WARNING",
    )
    try:
        yield
    finally:
        from ray import serve

        serve.shutdown()
        ray.shutdown()


def node_removed() -> Seen:
    """Two nodes, a model replica and an ingress on each; one node goes."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20},
    )
    worker = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    ray.init(address=cluster.address, logging_level="WARNING")
    try:
        # A whole processor each: one replica has no room beside the other.
        service = Service(num_cpus=1, worker_timeout_s=60)
        service.deploy()
        with Load(service.url) as load:
            load.wait(100)
            cluster.remove_node(worker, allow_graceful=False)
            load.wait(400)
            cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
            load.wait(100)
        return load.seen.as_json()
    finally:
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()


def main(names: list[str], out: Path) -> None:
    global _redis
    path = traffic.choose(os.environ.get("FAULTS_TRAFFIC", "auto"))  # type: ignore[arg-type]
    traffic.prepare(path, os.environ)
    with traffic.importing(os.environ):
        import ray  # noqa: F401
        from ray import serve  # noqa: F401
    seen: dict[str, Seen] = {}
    if names == ["node_removed"]:
        seen["node_removed"] = node_removed()
    else:
        _redis = RedisServer(folder())
        with _cluster():
            service = Service(
                redis_enabled=True,
                redis_url=_redis.url,
                ingress_replicas=int(os.environ.get("FAULTS_INGRESSES", "1")),
                worker_timeout_s=60,
            )
            service.deploy()
            for name in names:
                seen[name] = globals()[name](service)
                print(name, seen[name], flush=True)
        _redis.kill()
    out.write_text(json.dumps(seen))


if __name__ == "__main__":
    os.environ.setdefault("FAULTS_FOLDER", os.environ.get("TMPDIR", "/tmp"))
    # By its name, so that replicas import it rather than unpickle it.
    from tests.e2e.faults import driver

    driver.main(sys.argv[1:-1], Path(sys.argv[-1]))
