"""One real service, its traffic, and what is seen of it: metrics, panels, logs, traces."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Service, free_port, start, stop
from tests.models.remote import fake_provider as fake
from tests.otlp_collector import Collector, collecting
from tests.prometheus_server import Prometheus, scraping

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "deploy" / "prometheus-rules.yml"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
KEY = "a-key-that-nobody-may-see-1234"
QUERY = "zebrafish regenerate"
DOCUMENTS = ["0.25 quetzalcoatlus flew", "0.75 zebrafish regenerate fins", "0.5 marmalade"]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@dataclass
class Running:
    service: Service
    collector: Collector
    session: Path
    prometheus: Prometheus

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        sent = {"authorization": f"Bearer {KEY}", **headers}
        return httpx.post(f"{self.service.url}{path}", json=body, headers=sent, timeout=60)

    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of the service's console."""
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
    # Ray's agent listens on the node's own address.
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
    """The command lines of the processes that belong to Ray's session."""
    found = ""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if str(session) in text and "raylet" in text.split(" ")[0]:
            found += text
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with (
        fake.serving(fake.cohere) as provider,
        collecting() as collector,
        # Short: the paths of Ray's sockets are long and have a limit.
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
            tmp_path_factory.mktemp("service") / "log",
            RERANKER_MODELS=json.dumps(models),
            RERANKER_API_KEYS=f"{KEY} name=search",
            A_PROVIDERS_KEY="sk-of-the-provider",
            LOG_FORMAT="json",
            LOG_LEVEL="DEBUG",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_BSP_SCHEDULE_DELAY="200",
            RAY_TMPDIR=ray,
        )
        try:
            session = (Path(ray) / "ray" / "session_latest").resolve()
            folder = tmp_path_factory.mktemp("prometheus")
            with scraping(folder, _jobs(service, session), RULES) as prometheus:
                yield Running(service, collector, session, prometheus)
        finally:
            stop(service)


def _traffic(running: Running, turn: int) -> None:
    """Several dialects and models, repeated pairs, and what goes wrong."""
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


@pytest.fixture(scope="module")
def seen(running: Running) -> Running:
    """After traffic in two turns, with a scrape between them."""
    _traffic(running, 0)
    for name in ("rerank_engine_rows_total", "ray_rerank_engine_rows_total"):
        running.prometheus.wait_for(name)
    running.prometheus.wait_for('rerank_upstream_total{model="down", event="calls"}')
    _traffic(running, 1)
    return running


def test_prometheus_scrapes_the_service_and_ray(seen: Running) -> None:
    targets = seen.prometheus.get("/api/v1/targets")["activeTargets"]
    assert {(t["labels"]["job"], t["health"]) for t in targets} == {("rerank", "up"), ("ray", "up")}
    assert seen.prometheus.get("/api/v1/rules")["groups"][0]["rules"]


PAIRS = [
    "rerank_requests_total",
    "rerank_documents_total",
    "rerank_cache_hits_total",
    "rerank_key_requests_total",
    "rerank_engine_rows_total",
    "rerank_engine_tokens_total",
    "rerank_process_seconds_count",
    "rerank_process_seconds_bucket",
    "rerank_engine_forward_seconds_count",
    "rerank_upstream_total",
]


@pytest.mark.parametrize("name", PAIRS)
def test_ray_has_the_services_own_figures(seen: Running, name: str) -> None:
    """Over all labels; whatever came last needs its time to reach both."""
    deadline = time.monotonic() + 30
    while True:
        own, by_ray = (
            [float(one["value"][1]) for one in seen.prometheus.query(f"sum({metric})")]
            for metric in (name, f"ray_{name}")
        )
        if own == by_ray and own[0] > 0:
            return
        assert time.monotonic() < deadline, (name, own, by_ray)
        time.sleep(0.5)


def _targets() -> list[Any]:
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    return [
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in panels
        for target in panel["targets"]
    ]


@pytest.mark.parametrize("expression", _targets())
def test_every_panel_has_data(seen: Running, expression: str) -> None:
    filled = expression
    # As Grafana fills them, for All and for a service that has run for a minute.
    for name, value in {"model": ".*", "__rate_interval": "60s", "__range": "60s"}.items():
        filled = filled.replace(f"${name}", value)
    assert "$" not in filled
    seen.prometheus.wait_for(filled)


def test_the_dashboards_rows_and_variables() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Traffic",
        "Latency",
        "Queue",
        "Batching",
        "Cache",
        "Tokens and usage by key",
        "Providers",
        "Replicas and errors",
    ]
    variables = {v["name"]: v["type"] for v in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource": "datasource", "model": "query"}
    for panel in DASHBOARD["panels"]:
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_promtool_accepts_the_rules_and_the_example() -> None:
    for command in (
        ["check", "rules", str(RULES)],
        ["check", "config", "--syntax-only", str(ROOT / "deploy" / "prometheus.yml")],
    ):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr


def test_rules_name_metrics_that_there_are(seen: Running) -> None:
    for rule in seen.prometheus.get("/api/v1/rules")["groups"][0]["rules"]:
        for name in re.findall(r"\brerank_[a-z_]+", rule["query"]):
            seen.prometheus.wait_for(name)


def test_a_requests_id_goes_its_whole_way(seen: Running) -> None:
    new = [*DOCUMENTS, "a document of its own"]
    answer = seen.post("/v1/rerank", {"query": QUERY, "documents": new}, **{"x-request-id": "id-7"})
    assert answer.headers["x-request-id"] == "id-7"
    line = seen.wait_for_line(request_id="id-7", status=200)
    assert (line["method"], line["path"], line["dialect"]) == ("POST", "/v1/rerank", "v1")
    assert (line["model"], line["documents"], line["key"]) == ("own", 4, "search")
    assert 0 <= line["cached_tokens"] < line["tokens"]
    assert {"lookup_ms", "queue_ms", "score_ms", "rank_ms", "total_ms"} <= set(line)
    batches = [one for one in seen.lines() if "id-7" in one.get("request_ids", [])]
    assert batches
    assert all(one["batch_calls"] >= 1 and one["deployment"] == "Model-0" for one in batches)


def test_warnings_about_a_request_carry_its_id(seen: Running) -> None:
    ask = {"query": "by another", "documents": DOCUMENTS, "model": "spare"}
    seen.post("/v1/rerank", ask, **{"x-request-id": "id-8"})
    mine = [line for line in seen.lines() if line.get("request_id") == "id-8"]
    deadline = time.monotonic() + 20
    while {line["deployment"] for line in mine if line["levelname"] == "WARNING"} != {
        "Ingress",
        "Model-2",
    }:
        assert time.monotonic() < deadline, mine
        time.sleep(0.2)
        mine = [line for line in seen.lines() if line.get("request_id") == "id-8"]


def test_refusals_are_logged_and_probes_are_not(seen: Running) -> None:
    assert seen.wait_for_line(status=401)["path"] == "/v1/rerank"
    assert seen.wait_for_line(status=404)["dialect"] == "v1"
    probes = [line for line in seen.lines() if line.get("path") == "/metrics"]
    assert {line["levelname"] for line in probes} == {"DEBUG"}


def test_no_text_and_no_key_is_logged(seen: Running) -> None:
    odd = "zebrafish\nregenerate {} %s"
    seen.post("/v1/rerank", {"query": odd, "documents": [], "model": odd})
    httpx.get(f"{seen.service.url}/%0AINFO?key={KEY}", timeout=10)
    seen.wait_for_line(path="/%0AINFO")
    files = [*(seen.session / "logs").rglob("*"), seen.service.log]
    texts = {path: path.read_text(errors="replace") for path in files if path.is_file()}
    for word in ("zebrafish", "quetzalcoatlus", "marmalade", KEY, "sk-of-the-provider"):
        assert [str(path) for path, text in texts.items() if word in text] == []


def test_one_request_is_one_tree_over_the_processes(seen: Running) -> None:
    # Long enough for several chunks.
    documents = [f"{i} " + "some words of a longer document " * 40 for i in range(12)]
    answer = seen.post(
        "/v1/rerank",
        {"query": QUERY, "documents": documents},
        traceparent=f"00-{TRACE}-{PARENT}-01",
    )
    assert answer.status_code == 200
    names = {"POST /v1/rerank", "lookup", "queue", "score", "encode", "wait", "forward"}
    spans = seen.collector.wait_for(TRACE, names)
    by_id = {span.span_id.hex(): span for span in spans}
    (root,) = [span for span in spans if span.parent_span_id.hex() == PARENT]
    assert root.name == "POST /v1/rerank"
    parents = {span.name: by_id[span.parent_span_id.hex()].name for span in spans if span != root}
    assert parents == {
        "lookup": root.name,
        "queue": root.name,
        "score": root.name,
        "encode": "score",
        "wait": "score",
        "forward": "score",
    }
    chunks = [span for span in spans if span.name == "score"]
    assert len(chunks) == len([span for span in spans if span.name == "forward"]) > 1
    for span in spans:
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    attributes = {a.key: a.value for a in root.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert attributes["rerank.documents"].int_value == len(documents)
    assert {name for name, _ in seen.collector.spans} == {"rerank-serve"}


def test_a_providers_call_is_in_the_tree_and_no_text_in_any_span(seen: Running) -> None:
    trace = "5bf92f3577b34da6a3ce929d0e0e4737"
    seen.post(
        "/v1/rerank",
        {"query": "1 other", "documents": DOCUMENTS, "model": "down"},
        traceparent=f"00-{trace}-{PARENT}-01",
    )
    spans = seen.collector.wait_for(trace, {"POST /v1/rerank", "score", "upstream"})
    by_name = {span.name: span for span in spans}
    assert by_name["upstream"].parent_span_id == by_name["score"].span_id
    assert all(by_name[name].status.code == 2 for name in ("upstream", "score", "POST /v1/rerank"))
    everything = "".join(str(span) for _, span in seen.collector.spans)
    for word in ("zebrafish", "marmalade", KEY):
        assert word not in everything


def test_the_trace_is_named_in_the_log(seen: Running) -> None:
    trace = "6bf92f3577b34da6a3ce929d0e0e4738"
    ask = {"query": QUERY, "documents": DOCUMENTS}
    seen.post("/v1/rerank", ask, traceparent=f"00-{trace}-{PARENT}-01")
    assert seen.wait_for_line(trace_id=trace)["status"] == 200
