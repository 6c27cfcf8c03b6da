"""A real Prometheus server for a test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from serve_app.deployments.ports import free_port
from tests.programs import need

START_TIMEOUT_S = 30.0
Result = list[dict[str, Any]]


class Prometheus:
    """Queries the server through its HTTP API."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def query(self, expression: str) -> Result:
        """Evaluate an expression to an instant vector. Raises AssertionError if that fails."""
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: Result = answer["data"]["result"]
        return found

    def wait_for(self, expression: str, timeout_s: float = 30.0) -> Result:
        """Poll an expression until its result contains a number; returns the numeric samples."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = [one for one in self.query(expression) if one["value"][1] != "NaN"]
            if found:
                return found
            assert time.monotonic() < deadline, f"no data: {expression}"
            time.sleep(0.3)

    def get(self, path: str) -> Any:
        """The data of an API endpoint."""
        return self._client.get(path).json()["data"]


@contextmanager
def scraping(
    folder: Path, jobs: Sequence[Mapping[str, Any]], rules: Path | None = None
) -> Iterator[Prometheus]:
    """Prometheus over these jobs, every two seconds."""
    program = need("prometheus")
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
        "scrape_configs": list(jobs),
        "rule_files": [str(rules)] if rules else [],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={folder / 'prometheus.yml'}"]
    command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait(process, f"http://{address}", folder / "prometheus.log")
        with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
            yield Prometheus(client)
    finally:
        process.terminate()
        process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError(f"prometheus did not start:\n{log.read_text()}")
