"""Every route of a running service, with real text and the embedded model."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Service

QUERY = "how do pandas eat?"
DOCUMENTS = [
    "Stock prices fell sharply on Monday.",
    "Pandas eat bamboo by stripping it with their teeth.",
    "The recipe needs two eggs and flour.",
]


def test_native_ranks_the_right_document_first(client: httpx.Client) -> None:
    answer = client.post("/rerank", json={"query": QUERY, "documents": DOCUMENTS, "top_k": 2})
    body = answer.json()
    assert answer.status_code == 200, body
    assert body["results"][0]["index"] == 1
    assert len(body["results"]) == 2
    assert body["results"][0]["document"] == DOCUMENTS[1]
    assert body["results"][0]["score"] > body["results"][1]["score"]
    assert body["processing_time_ms"] > 0
    assert "total;dur=" in answer.headers["server-timing"]


def test_v1_has_the_format_of_cohere_and_jina(client: httpx.Client) -> None:
    documents = [{"text": text, "id": i} for i, text in enumerate(DOCUMENTS)]
    body = client.post(
        "/v1/rerank",
        json={
            "model": "rerank-v3.5",
            "query": QUERY,
            "documents": documents,
            "top_n": 1,
            "return_documents": True,
        },
        headers={"x-request-id": "mine-1"},
    )
    answer = body.json()
    assert body.headers["x-request-id"] == "mine-1"
    (hit,) = answer["results"]
    assert hit["index"] == 1
    assert 0 <= hit["relevance_score"] <= 1
    assert hit["document"] == documents[1]
    assert answer["model"] == "all-MiniLM-L6-v2-maxsim"
    assert answer["usage"]["total_tokens"] > 0
    assert answer["meta"]["billed_units"]["search_units"] == 1


def test_a_repeated_request_is_answered_from_the_score_store(client: httpx.Client) -> None:
    body = {"query": "a query nobody sent before", "documents": DOCUMENTS}
    first = client.post("/v1/rerank", json=body).json()
    second = client.post("/v1/rerank", json=body).json()
    assert first["meta"]["cached_tokens"] == 0
    assert second["meta"]["cached_tokens"] == second["usage"]["total_tokens"]
    assert first["results"] == second["results"]


def test_health_ready_models_and_openapi(client: httpx.Client) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert set(health["controller"]) == {
        "waiting",
        "active",
        "available_slots",
        "max_parallel",
        "max_queue",
    }
    (model,) = health["models"].values()
    assert {"backend", "source", "device", "dtype", "cache"} <= set(model)
    assert client.get("/ready").json() == {"ready": True}
    ids = [m["id"] for m in client.get("/v1/models").json()["data"]]
    assert ids[0] == health["default_model"]
    assert "rerank-v3.5" in ids
    assert {"/rerank", "/v1/rerank", "/health"} <= set(client.get("/openapi.json").json()["paths"])
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")


def test_metrics_in_both_formats_count_the_requests(client: httpx.Client) -> None:
    before = client.get("/metrics").json()
    client.post("/rerank", json={"query": "count me", "documents": ["one"]})
    after = client.get("/metrics").json()
    assert after["total_requests"] == before["total_requests"] + 1
    text = client.get("/metrics", headers={"accept": "text/plain"}).text
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "rerank_requests" in names


BAD: list[tuple[str, object, set[int]]] = [
    ("empty query", {"query": "", "documents": ["a"]}, {400, 422}),
    ("blank query", {"query": " \n\t", "documents": ["a"]}, {400, 422}),
    ("no query", {"documents": ["a"]}, {400, 422}),
    ("query is a number", {"query": 3, "documents": ["a"]}, {422}),
    ("no documents", {"query": "q"}, {400, 422}),
    ("empty documents", {"query": "q", "documents": []}, {400}),
    ("10,001 documents", {"query": "q", "documents": ["a"] * 10_001}, {400, 422}),
    ("a null document", {"query": "q", "documents": ["a", None]}, {422}),
    ("a number document", {"query": "q", "documents": ["a", 3]}, {422}),
    ("top_n of 0", {"query": "q", "documents": ["a"], "top_n": 0}, {422}),
    ("top_n of -1", {"query": "q", "documents": ["a"], "top_n": -1}, {422}),
    ("unknown model", {"query": "q", "documents": ["a"], "model": "no-such"}, {404}),
]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
@pytest.mark.parametrize(("body", "statuses"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_invalid_input_gets_a_clear_error_within_a_second(
    client: httpx.Client, path: str, body: object, statuses: set[int]
) -> None:
    started = time.perf_counter()
    answer = client.post(path, json=body)
    assert time.perf_counter() - started < 5
    assert answer.status_code in statuses, answer.text
    problem = answer.json()
    message = problem["error"]["message"] if path == "/rerank" else problem["message"]
    assert len(message) > 10
    assert "Traceback" not in answer.text
    if path == "/v1/rerank":
        assert problem["detail"]
        assert problem["id"]


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"query=a", "application/x-www-form-urlencoded", 415),
        (b'{"query": "a", "documents": ["' + b"x" * 20_000_000 + b'"]}', "application/json", 413),
    ],
    ids=["cut json", "a list", "not utf-8", "a form", "20 MB"],
)
def test_invalid_bodies_are_rejected(
    client: httpx.Client, content: bytes, content_type: str, status: int
) -> None:
    answer = client.post("/v1/rerank", content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.json()["message"]
    assert client.post("/rerank", json={"query": "q", "documents": ["a"]}).status_code == 200


def test_unknown_path_and_unsupported_method(client: httpx.Client) -> None:
    assert client.get("/nothing").status_code == 404
    assert client.get("/v1/rerank").status_code == 405


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
def test_unusual_text_is_scored(client: httpx.Client, path: str) -> None:
    documents = '["\\ud800 lone", "\\u0000\\u0007 control", "", "日本語 العربية 😀"]'
    content = f'{{"query": "q\\udfff", "documents": {documents}, "return_documents": true}}'
    answer = client.post(
        path, content=content.encode(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == 4


def test_a_document_of_a_million_characters_is_truncated_with_a_warning(
    client: httpx.Client,
) -> None:
    answer = client.post("/v1/rerank", json={"query": "q", "documents": ["word " * 200_000]})
    assert answer.status_code == 200
    assert answer.json()["meta"]["warnings"]


async def test_concurrent_requests_each_get_their_own_response(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        answers = await asyncio.gather(
            *(
                client.post(
                    "/rerank", json={"query": f"number {i % 7}", "documents": [f"n {i}", "x"]}
                )
                for i in range(60)
            )
        )
    assert {a.status_code for a in answers} == {200}
    for i, answer in enumerate(answers):
        assert {r["document"] for r in answer.json()["results"]} == {f"n {i}", "x"}
