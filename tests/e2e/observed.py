"""A service with Prometheus and a trace collector, for the observability tests."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serve_app.deployments.ports import free_port
from tests.e2e.conftest import Service, kill, start
from tests.models.remote import fake_provider as fake
from tests.otlp_collector import Collector, collecting
from tests.prometheus_server import Prometheus, scraping

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "prometheus-rules.yml"
KEY = "a-key-that-nobody-may-see-1234"
QUERY = "zebrafish regenerate"
DOCUMENTS = ["0.25 quetzalcoatlus flew", "0.75 zebrafish regenerate fins", "0.5 marmalade"]


@dataclass
class Running:
    service: Service
    collector: Collector
    session: Path

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        sent = {"authorization": f"Bearer {KEY}", **headers}
        return httpx.post(f"{self.service.url}{path}", json=body, headers=sent, timeout=60)

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines on the service's console."""
        text = self.service.log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in text if line.startswith("{")]

    def wait_for_line(self, **fields: Any) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while True:
            for line in self.lines():
                if fields.items() <= line.items():
                    return line
            assert time.monotonic() < deadline, fields
            time.sleep(0.2)


def _jobs(service: Service, session: Path) -> list[dict[str, Any]]:
    (port,) = session.glob("metrics_export_port_*")
    # Ray's agent listens on the node's address.
    (node,) = set(re.findall(r"--node-ip-address=(\S+)", _commands(session)))
    return [
        {
            "job_name": "rerank",
            "static_configs": [{"targets": [service.url.removeprefix("http://")]}],
            "authorization": {"credentials": KEY},
        },
        {
            "job_name": "ray",
            "static_configs": [{"targets": [f"{node}:{port.read_text().strip()}"]}],
        },
    ]


def _commands(session: Path) -> str:
    """The command lines of the processes of Ray's session."""
    found = ""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if str(session) in text and "raylet" in text.split(" ")[0]:
            found += text
    return found


@contextmanager
def observed(folder: Path) -> Iterator[Running]:
    """Start the service and the collector, and send some traffic."""
    with (
        fake.serving(fake.cohere) as provider,
        collecting() as collector,
        # A short path, since the length of Ray's socket paths is limited.
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as ray,
    ):
        hosted = {"provider": "cohere", "model": "m", "api_key_env": "A_PROVIDERS_KEY"}
        nowhere = f"http://127.0.0.1:{free_port()}"
        models = [
            {"name": "own", "source": "embedded"},
            {"name": "hosted", **hosted, "base_url": provider.url, "retries": 0},
            {"name": "spare", **hosted, "base_url": nowhere, "retries": 0, "fallback": "own"},
            {"name": "down", **hosted, "base_url": nowhere, "retries": 0},
        ]
        service = start(
            folder / "log",
            RERANKER_MODELS=json.dumps(models),
            RERANKER_API_KEYS=f"{KEY} name=search role=operator",
            A_PROVIDERS_KEY="sk-of-the-provider",
            LOG_FORMAT="json",
            LOG_LEVEL="DEBUG",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="200",
            RAY_TMPDIR=ray,
        )
        try:
            session = (Path(ray) / "ray" / "session_latest").resolve()
            running = Running(service, collector, session)
            _traffic(running, 0)
            yield running
        finally:
            kill(service)


@contextmanager
def scraped(running: Running, folder: Path) -> Iterator[Prometheus]:
    """Prometheus, with traffic after its first scrape, so that rates are not zero."""
    with scraping(folder, _jobs(running.service, running.session), RULES) as prometheus:
        for name in ("rerank_engine_rows_total", "ray_rerank_engine_rows_total"):
            prometheus.wait_for(name)
        prometheus.wait_for('rerank_upstream_total{model="down", event="calls"}')
        _traffic(running, 1)
        yield prometheus


def _traffic(running: Running, turn: int) -> None:
    """Send requests in several dialects and to several models, repeated pairs and failures."""
    new = [f"{text} {turn}" for text in DOCUMENTS]
    ask = {"query": QUERY, "documents": new}
    statuses = [
        running.post("/v1/rerank", ask).status_code,
        running.post("/rerank", {**ask, "documents": [*new, *new]}).status_code,
        running.post("/rerank", {"query": QUERY, "texts": new}).status_code,
        running.post("/v2/rerank", {**ask, "model": "hosted"}).status_code,
        running.post("/v2/rerank", {**ask, "model": "spare", "query": f"{turn}"}).status_code,
    ]
    assert statuses == [200] * 5
    with ThreadPoolExecutor(4) as pool:
        several = [{"query": f"{QUERY} {turn} {i}", "documents": DOCUMENTS} for i in range(8)]
        answers = list(pool.map(lambda body: running.post("/v1/rerank", body), several))
    assert {answer.status_code for answer in answers} == {200}
    assert running.post("/v1/rerank", {**ask, "model": "down"}).status_code >= 500
    assert running.post("/v1/rerank", {**ask, "model": "none"}).status_code == 404
    assert running.post("/v1/rerank", {"query": QUERY}).status_code in (400, 422)
    refused = running.post("/v1/rerank", ask, authorization="Bearer a-wrong-key-1234567890")
    assert refused.status_code == 401
