"""The same service on both paths: HAProxy with direct ingress, and Ray Serve's own proxy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serve_app.deployments.proxy import choose
from tests.e2e.conftest import Service, exposed, kill, start
from tests.waiting import until

MEGABYTE = 2**20
NAMES = {"haproxy": "HAProxy and direct ingress", "proxy": "Ray Serve's own proxy"}


@pytest.fixture(scope="module", params=["haproxy", pytest.param("proxy", marks=pytest.mark.slow)])
def path(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "haproxy" and not choose("auto").haproxy:
        pytest.skip(str(choose("auto")))
    return name


@pytest.fixture(scope="module")
def narrow(path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One request at a time without a queue, listening on all addresses."""
    running = start(
        tmp_path_factory.mktemp("narrow") / "log",
        HOST="0.0.0.0",
        RERANKER_TRAFFIC=path,
        RERANKER_MAX_PARALLEL="1",
        RERANKER_MAX_QUEUE="0",
    )
    yield running
    kill(running)


def test_the_path_is_reported(narrow: Service, path: str) -> None:
    assert f"traffic: {NAMES[path]}" in narrow.log.read_text()
    assert httpx.get(f"{narrow.url}/health").json()["traffic"] == NAMES[path]


def test_a_service_without_keys_on_all_addresses_logs_a_warning(narrow: Service) -> None:
    assert narrow.log.read_text().count("WITHOUT API KEYS") == 1


def test_only_the_service_itself_listens_on_all_addresses(narrow: Service) -> None:
    port = int(narrow.url.rsplit(":", 1)[1])
    others = {name for name, number in exposed(narrow) if number != port}
    assert port in {number for _, number in exposed(narrow)}
    assert all(name.startswith("ray::ServeReplica") for name in others), others


@pytest.mark.parametrize("route", ["/health", "/ready", "/metrics", "/v1/models", "/docs"])
def test_routes_respond(narrow: Service, route: str) -> None:
    assert httpx.get(f"{narrow.url}{route}").status_code == 200


def test_request_ids_are_returned_once(narrow: Service) -> None:
    body = {"query": "q", "documents": ["d"]}
    sent = httpx.post(f"{narrow.url}/rerank", json=body, headers={"x-request-id": "mine-1"})
    assert sent.headers.get_list("x-request-id") == ["mine-1"]
    made = httpx.post(f"{narrow.url}/rerank", json=body)
    assert len(made.headers.get_list("x-request-id")) == 1
    wrong = httpx.post(f"{narrow.url}/rerank", json={}, headers={"x-request-id": "mine-2"})
    assert (wrong.status_code, wrong.json()["request_id"]) == (400, "mine-2")
    missing = httpx.get(f"{narrow.url}/nowhere")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize(
    "name",
    [
        "x-request-id",
        "x-session-id",
        "serve_multiplexed_model_id",
        "x-request-timeout-seconds",
        "x-request-disconnect-disabled",
    ],
)
def test_header_values_that_ray_cannot_decode_do_no_harm(narrow: Service, name: str) -> None:
    body = {"query": "q", "documents": ["d"]}
    headers = [(name.encode(), b"caf\xe9")]
    answer = httpx.post(f"{narrow.url}/rerank", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"].isascii()


def test_a_long_request_id_is_replaced_everywhere(narrow: Service) -> None:
    sent = "long" * 5000
    wrong = httpx.post(f"{narrow.url}/rerank", json={}, headers={"x-request-id": sent})
    assert wrong.json()["request_id"] == wrong.headers["x-request-id"]
    assert len(wrong.headers["x-request-id"]) <= 128
    assert sent not in narrow.log.read_text()


async def test_a_client_that_leaves_while_it_uploads_is_no_failure(narrow: Service) -> None:
    # HAProxy forwards a request once its body is complete or its buffer full.
    head = b"POST /v2/rerank HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    url = httpx.URL(narrow.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(head + b"{" * 300_000)
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    await writer.wait_closed()
    async with httpx.AsyncClient(base_url=narrow.url, timeout=10) as client:

        async def counted() -> bool:
            figures = (await client.get("/metrics")).json()
            return bool(figures["responses_by_dialect"].get("v2") == {"499": 1})

        await until(counted)
    assert "unexpected error" not in narrow.log.read_text()


def test_large_bodies_are_accepted_up_to_the_limit(narrow: Service) -> None:
    documents = ["a short one", "x" * (5 * MEGABYTE)]
    body = {"query": "q", "documents": documents, "max_tokens_per_doc": 32}
    answer = httpx.post(f"{narrow.url}/rerank", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == 2
    over = httpx.post(f"{narrow.url}/rerank", content=b"x" * (11 * MEGABYTE), timeout=60)
    assert over.status_code == 413


def test_requests_over_the_limit_get_retry_after(narrow: Service) -> None:
    documents = [f"document {time.time()} number {i} " * 20 for i in range(150)]

    def send(i: int) -> httpx.Response:
        body = {"query": f"q {i}", "documents": documents}
        return httpx.post(f"{narrow.url}/rerank", json=body, timeout=60)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(send, range(6)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) < len(answers)
    assert {answer.status_code for answer in refused} == {429}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


def test_an_unavailable_path_prevents_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="RAY_SERVE_HAPROXY_BINARY_PATH"):
        start(
            tmp_path / "log",
            RERANKER_TRAFFIC="haproxy",
            RAY_SERVE_HAPROXY_BINARY_PATH=str(tmp_path / "none"),
        )
