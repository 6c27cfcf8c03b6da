"""Metrics, dashboard panels, logs and traces of a real service with traffic."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.observed import DOCUMENTS, KEY, QUERY, ROOT, RULES, Running, observed, scraped
from tests.programs import need
from tests.prometheus_server import Prometheus

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with observed(tmp_path_factory.mktemp("observed")) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(seen: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with scraped(seen, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


@pytest.mark.slow
def test_prometheus_scrapes_the_service_and_ray(prometheus: Prometheus) -> None:
    targets = prometheus.get("/api/v1/targets")["activeTargets"]
    assert {(t["labels"]["job"], t["health"]) for t in targets} == {("rerank", "up"), ("ray", "up")}
    assert prometheus.get("/api/v1/rules")["groups"][0]["rules"]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_rays_metrics_equal_the_services_own(prometheus: Prometheus, name: str) -> None:
    """Summed over all labels; recent values take some time to reach both."""
    deadline = time.monotonic() + 30
    while True:
        own, by_ray = (
            [float(one["value"][1]) for one in prometheus.query(f"sum({metric})")]
            for metric in (name, f"ray_{name}")
        )
        if own and own == by_ray and own[0] > 0:
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


@pytest.mark.slow
@pytest.mark.parametrize("expression", _targets())
def test_every_panel_has_data(prometheus: Prometheus, expression: str) -> None:
    filled = expression
    # As Grafana sets them, for "All" and a service that has run for a minute.
    for name, value in {"model": ".*", "__rate_interval": "60s", "__range": "60s"}.items():
        filled = filled.replace(f"${name}", value)
    assert "$" not in filled
    prometheus.wait_for(filled)


def test_the_dashboard_has_its_rows_and_variables() -> None:
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
        done = subprocess.run(
            [need("promtool"), *command], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_rules_refer_to_existing_metrics(prometheus: Prometheus) -> None:
    for rule in prometheus.get("/api/v1/rules")["groups"][0]["rules"]:
        for name in re.findall(r"\brerank_[a-z_]+", rule["query"]):
            prometheus.wait_for(name)


def test_the_request_id_is_logged_in_every_process(seen: Running) -> None:
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
    assert all(one["batch_calls"] >= 1 and one["deployment"] == "rerank_Model-0" for one in batches)


def test_warnings_about_a_request_have_its_id(seen: Running) -> None:
    ask = {"query": "by another", "documents": DOCUMENTS, "model": "spare"}
    seen.post("/v1/rerank", ask, **{"x-request-id": "id-8"})
    mine = [line for line in seen.lines() if line.get("request_id") == "id-8"]
    deadline = time.monotonic() + 20
    while {line["deployment"] for line in mine if line["levelname"] == "WARNING"} != {
        "rerank_Ingress",
        "rerank_Model-2",
    }:
        assert time.monotonic() < deadline, mine
        time.sleep(0.2)
        mine = [line for line in seen.lines() if line.get("request_id") == "id-8"]


def test_rejections_are_logged_but_probes_are_not(seen: Running) -> None:
    assert seen.wait_for_line(status=401)["path"] == "/v1/rerank"
    assert seen.wait_for_line(status=404)["dialect"] == "v1"
    httpx.get(f"{seen.service.url}/metrics", headers={"x-api-key": KEY}, timeout=10)
    seen.wait_for_line(path="/metrics")
    probes = [line for line in seen.lines() if line.get("path") == "/metrics"]
    assert {line["levelname"] for line in probes} == {"DEBUG"}


def test_no_text_or_key_is_logged(seen: Running) -> None:
    odd = "zebrafish\nregenerate {} %s"
    seen.post("/v1/rerank", {"query": odd, "documents": [], "model": odd})
    httpx.get(f"{seen.service.url}/%0AINFO?key={KEY}", timeout=10)
    seen.wait_for_line(path="/%0AINFO")
    files = [*(seen.session / "logs").rglob("*"), seen.service.log]
    texts = {path: path.read_text(errors="replace") for path in files if path.is_file()}
    for word in ("zebrafish", "quetzalcoatlus", "marmalade", KEY, "sk-of-the-provider"):
        assert [str(path) for path, text in texts.items() if word in text] == []


def test_a_request_is_one_trace_across_processes(seen: Running) -> None:
    # Longer than any chunk, whatever the model's token budget is.
    documents = [f"{i} " + "some words of a longer document " * 40 for i in range(48)]
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


def test_a_call_to_a_provider_is_in_the_trace_and_spans_contain_no_text(seen: Running) -> None:
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


def test_the_log_has_the_trace_id(seen: Running) -> None:
    trace = "6bf92f3577b34da6a3ce929d0e0e4738"
    ask = {"query": QUERY, "documents": DOCUMENTS}
    seen.post("/v1/rerank", ask, traceparent=f"00-{trace}-{PARENT}-01")
    assert seen.wait_for_line(trace_id=trace)["status"] == 200
