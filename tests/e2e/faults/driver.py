"""A cluster, the service and faults under load; the tests run this in a separate process.

`python -m tests.e2e.faults.driver SCENARIO… OUT`: writes what was seen of each as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from serve_app.deployments import proxy
from serve_app.deployments.ports import free_port
from tests.e2e.faults import scenarios
from tests.e2e.faults.node import node_removed
from tests.e2e.faults.replica import folder
from tests.redis_server import RedisServer

APP = "rerank"
HANG_S = 3.0
START_S = 150.0
Seen = dict[str, Any]


def build(args: Mapping[str, Any]) -> Any:
    """The application of `serve_app.app:build`, with the recording replica."""
    from serve_app.app import bind
    from serve_app.settings import load
    from tests.e2e.faults.replica import RecordedReplica

    return bind(load(args, {}), warn_if_exposed=False, replica=RecordedReplica)


class Service:
    """The service on a running cluster, deployed and updated as with `serve deploy`."""

    def __init__(self, **args: Any) -> None:
        from ray import serve
        from ray.serve.context import _get_global_client

        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.args: dict[str, Any] = {"num_replicas": 2, "hang_timeout_s": HANG_S, **args}
        self.user_config: dict[str, Any] = {}
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": self.port},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        self.redis: RedisServer | None = None
        self._client = _get_global_client()

    def deploy(self) -> None:
        """Raise AssertionError if the service does not start."""
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
        self._client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
        self._wait_ready()

    def _wait_ready(self) -> None:
        from ray import serve

        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            found = serve.status().applications.get(APP)
            if found is not None and found.status == "RUNNING" and self._answers():
                return
            time.sleep(0.1)
        raise AssertionError("the service is not ready")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def model_handle(self) -> Any:
        from ray import serve

        return serve.get_deployment_handle("Model-0", APP)

    def metrics(self) -> Seen:
        time.sleep(2.5)  # reports come every two seconds
        found: Seen = httpx.get(f"{self.url}/metrics", timeout=30).json()
        return found


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


def main(names: list[str], out: Path) -> None:
    path = proxy.choose(os.environ.get("FAULTS_TRAFFIC", "auto"))  # type: ignore[arg-type]
    proxy.prepare(path, os.environ, folder())
    with proxy.importing(os.environ):
        import ray  # noqa: F401
        from ray import serve  # noqa: F401
    seen: dict[str, Seen] = {}
    if names == ["node_removed"]:
        seen["node_removed"] = node_removed(Service)
    else:
        redis = RedisServer(folder())
        with _cluster():
            service = Service(
                redis_enabled=True,
                redis_url=redis.url,
                ingress_replicas=int(os.environ.get("FAULTS_INGRESSES", "1")),
                worker_timeout_s=60,
            )
            service.redis = redis
            service.deploy()
            for name in names:
                seen[name] = getattr(scenarios, name)(service)
                print(name, seen[name], flush=True)
        redis.kill()
    out.write_text(json.dumps(seen))


if __name__ == "__main__":
    os.environ.setdefault("FAULTS_FOLDER", os.environ.get("TMPDIR", "/tmp"))
    # By import path, so that replicas import it instead of unpickling it.
    from tests.e2e.faults import driver

    driver.main(sys.argv[1:-1], Path(sys.argv[-1]))
