"""The routes, in process: dialects, compressed bodies, errors, /info."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import zstandard

from models.types import Score
from serve_app.api.app import make_app
from serve_app.api.dialects import Limits
from serve_app.errors import Overloaded
from tests.serve_app.fakes import FakeFrontend, WordOverlap

QUERY, TEXTS = "red fox", ["a blue hen", "a red fox"]


class Front:
    """An app and the backend behind it."""

    def __init__(self) -> None:
        self.backend = WordOverlap()
        self.front = FakeFrontend(self.backend, Limits(max_documents=2000, max_body_bytes=100_000))
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(make_app(lambda: self.front)), base_url="http://rerank"
        )


@pytest.fixture
async def app() -> AsyncIterator[Front]:
    front = Front()
    async with front.client:
        yield front


@pytest.mark.parametrize(
    ("path", "body", "best"),
    [
        ("/rerank", {"query": QUERY, "documents": TEXTS}, ("results", "index")),
        ("/reranking", {"query": QUERY, "documents": TEXTS}, ("results", "index")),
        ("/v1/rerank", {"query": QUERY, "documents": TEXTS}, ("results", "index")),
        ("/v1/reranking", {"query": QUERY, "documents": TEXTS}, ("results", "index")),
        ("/v2/rerank", {"query": QUERY, "documents": TEXTS}, ("results", "index")),
        ("/vllm/rerank", {"query": QUERY, "documents": TEXTS}, ("results", "index")),
        ("/v1/rerank", {"query": QUERY, "documents": TEXTS, "top_k": 1}, ("data", "index")),
        ("/voyage/v1/rerank", {"query": QUERY, "documents": TEXTS}, ("data", "index")),
        (
            "/v1/ranking",
            {"query": {"text": QUERY}, "passages": [{"text": t} for t in TEXTS]},
            ("rankings", "index"),
        ),
        (
            "/v1/retrieval/nvidia/a-model/reranking",
            {"query": {"text": QUERY}, "passages": [{"text": t} for t in TEXTS]},
            ("rankings", "index"),
        ),
    ],
)
async def test_every_route_ranks_documents(
    app: Front, path: str, body: dict[str, Any], best: tuple[str, str]
) -> None:
    answer = await app.client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()[best[0]][0][best[1]] == 1


async def test_tei_and_score_formats(app: Front) -> None:
    answer = await app.client.post("/rerank", json={"query": QUERY, "texts": TEXTS})
    assert answer.json() == [{"index": 1, "score": 2.0}, {"index": 0, "score": 0.0}]
    pairs = {"text_1": QUERY, "text_2": TEXTS}
    for path in ("/score", "/v1/score"):
        scores = (await app.client.post(path, json=pairs)).json()["data"]
        assert [entry["score"] for entry in scores] == [0.0, 2.0]


async def test_unsorted_results_are_the_best_documents_in_document_order(app: Front) -> None:
    body = {"query": QUERY, "documents": ["fox", "hen", "red fox"], "sort": False, "top_k": 2}
    hits = (await app.client.post("/rerank", json=body)).json()["results"]
    assert [hit["index"] for hit in hits] == [0, 2]


@pytest.mark.parametrize(
    ("path", "body", "status", "key"),
    [
        ("/rerank", {"texts": TEXTS, "truncate": False}, 413, "error_type"),
        ("/voyage/v1/rerank", {"documents": TEXTS, "truncation": False}, 400, "detail"),
        ("/v1/rerank", {"documents": TEXTS, "truncation": False}, 422, "detail"),
        ("/rerank", {"documents": TEXTS, "truncate": False}, 422, "error"),
        ("/v1/ranking", {"passages": TEXTS, "truncate": "NONE"}, 400, "detail"),
    ],
)
async def test_a_document_that_is_too_long_is_rejected_without_truncation(
    app: Front, path: str, body: dict[str, Any], status: int, key: str
) -> None:
    ok = await app.client.post(path, json={"query": QUERY, **body})
    assert ok.status_code == 200

    async def too_long(query: str, documents: list[Any], *more: Any) -> list[Score]:
        return [Score(0.0, 64, True) for _ in documents]

    app.backend.score = too_long  # type: ignore[method-assign]
    answer = await app.client.post(path, json={"query": "other", **body})
    assert answer.status_code == status, answer.text
    assert key in answer.json()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_compressed_request_gets_a_compressed_response(app: Front, encoding: str) -> None:
    content = json.dumps({"query": QUERY, "documents": [f"text {i}" for i in range(300)]}).encode()
    compressed = (
        gzip.compress(content)
        if encoding == "gzip"
        else zstandard.ZstdCompressor().compress(content)
    )
    kind = {"content-type": "application/json", "content-encoding": encoding}
    answer = await app.client.post(
        "/v1/rerank", content=compressed, headers={**kind, "accept-encoding": encoding}
    )
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == encoding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert len(answer.json()["results"]) == 300
    plain = await app.client.post("/v1/rerank", json=json.loads(content), headers={
        "accept-encoding": "identity"
    })  # fmt: skip
    assert "content-encoding" not in plain.headers
    assert plain.json()["results"] == answer.json()["results"]


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (gzip.compress(bytes(10_000_000)), "gzip", 413),
        (zstandard.ZstdCompressor().compress(bytes(10_000_000)), "zstd", 413),
        (b"{}", "br", 415),
        (b"{}", "gzip", 400),
        (gzip.compress(b""), "gzip", 400),
    ],
    ids=["gzip bomb", "zstd bomb", "unknown", "not gzip", "nothing"],
)
async def test_invalid_compressed_bodies_are_rejected(
    app: Front, content: bytes, encoding: str, status: int
) -> None:
    kind = {"content-type": "application/json", "content-encoding": encoding}
    answer = await app.client.post("/v2/rerank", content=content, headers=kind)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert ("accept-encoding" in answer.headers) == (status == 415)


async def test_info_has_the_fields_of_tei(app: Front) -> None:
    info = (await app.client.get("/info")).json()
    assert info["model_id"] == "test"
    assert "reranker" in info["model_type"]
    assert info["max_input_length"] == 64
    assert info["max_client_batch_size"] == 2000


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/rerank", {"query": QUERY, "texts": TEXTS}, 429),
        ("/v2/rerank", {"query": QUERY, "documents": TEXTS}, 429),
        ("/score", {"text_1": QUERY, "text_2": TEXTS}, 429),
    ],
)
async def test_a_full_queue_is_reported_with_retry_after(
    app: Front, path: str, body: dict[str, Any], status: int
) -> None:
    app.backend.failures = [Overloaded("full")]
    answer = await app.client.post(path, json=body)
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "1"
    assert (await app.client.post(path, json=body)).status_code == 200


async def test_errors_for_unknown_paths_and_methods_have_the_format_of_similar_paths(
    app: Front,
) -> None:
    assert "error" in (await app.client.get("/nothing")).json()
    assert "detail" in (await app.client.get("/v1/nothing")).json()
    wrong = await app.client.get("/v1/ranking")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["object"] == "error"
