"""The routes, in process: dialects, /info, and errors of unknown paths and methods."""

from __future__ import annotations

from typing import Any

import pytest

from tests.serve_app.api.fakes import QUERY, TEXTS, Front


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


async def test_info_has_the_fields_of_tei(app: Front) -> None:
    info = (await app.client.get("/info")).json()
    assert info["model_id"] == "test"
    assert "reranker" in info["model_type"]
    assert info["max_input_length"] == 64
    assert info["max_client_batch_size"] == 2000


async def test_errors_for_unknown_paths_and_methods_have_the_format_of_similar_paths(
    app: Front,
) -> None:
    assert "error" in (await app.client.get("/nothing")).json()
    assert "detail" in (await app.client.get("/v1/nothing")).json()
    wrong = await app.client.get("/v1/ranking")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["object"] == "error"
