"""Jina's format as documented, and the frameworks' Jina rerankers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from haystack import Document as HaystackDocument
from haystack.utils import Secret
from haystack_integrations.components.rankers.jina import JinaRanker
from langchain_community.document_compressors import jina_rerank
from langchain_core.documents import Document
from llama_index.core import QueryBundle
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.jinaai_rerank import JinaRerank

from serve_app import errors
from tests.e2e.flaky import Flaky
from tests.e2e.texts import BEST, DOCUMENTS, QUERY

pytestmark = pytest.mark.usefixtures("closed_connections")
MODEL = "jina-reranker-v2-base-multilingual"


def post(url: str, **body: Any) -> httpx.Response:
    headers = {"Authorization": "Bearer key", "Accept": "application/json"}
    return httpx.post(f"{url}/v1/rerank", json=body, headers=headers, timeout=30)


def test_documents_as_strings_and_objects(url: str) -> None:
    for documents in (DOCUMENTS, [{"text": text} for text in DOCUMENTS]):
        answer = post(url, model=MODEL, query=QUERY, documents=documents, top_n=2).json()
        assert answer["object"] == "list"
        assert answer["usage"]["total_tokens"] > 0
        best, _ = answer["results"]
        assert best["index"] == BEST
        assert best["document"] == {"text": DOCUMENTS[BEST]}
        assert 0 <= best["relevance_score"] <= 1


def test_its_other_fields(url: str) -> None:
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "max_doc_length": 512}
    answer = post(url, **body, return_documents=False, return_embeddings=False).json()
    assert answer["results"][0]["index"] == BEST
    assert "document" not in answer["results"][0]
    refused = post(url, **body, return_embeddings=True)
    assert refused.status_code == 422
    assert "return_embeddings" in refused.json()["detail"]
    image = post(url, model="jina-reranker-m0", query="q", documents=[{"image": "x" * 40}])
    assert image.status_code == 422
    assert "accepts text only" in image.json()["detail"]


def langchain(url: str, monkeypatch: pytest.MonkeyPatch) -> jina_rerank.JinaRerank:
    # The only way to change this client's base URL.
    monkeypatch.setattr(jina_rerank, "JINA_API_URL", f"{url}/v1/rerank")
    return jina_rerank.JinaRerank(model=MODEL, jina_api_key="key", top_n=2)  # type: ignore[call-arg]


def test_langchain(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ranker = langchain(url, monkeypatch)
    best, _ = ranker.compress_documents([Document(text) for text in DOCUMENTS], QUERY)
    assert best.page_content == DOCUMENTS[BEST]
    assert 0 <= best.metadata["relevance_score"] <= 1
    with pytest.raises(RuntimeError, match="no-such"):
        ranker.rerank(DOCUMENTS, QUERY, model="no-such")


NODES = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]


def test_llama_index(url: str) -> None:
    ranker = JinaRerank(base_url=f"{url}/v1", api_key="key", model=MODEL, top_n=2)
    best, _ = ranker.postprocess_nodes(NODES, QueryBundle(QUERY))
    assert best.node.get_content() == DOCUMENTS[BEST]
    wrong = JinaRerank(base_url=f"{url}/v1", api_key="key", model="no-such")
    with pytest.raises(RuntimeError, match="no-such"):
        wrong.postprocess_nodes(NODES, QueryBundle(QUERY))


@pytest.mark.parametrize(
    "error", [errors.Overloaded("full"), errors.ModelUnavailable("away"), errors.BadRequest("no")]
)
def test_clients_show_the_detail_of_every_error(
    proxy: Flaky, monkeypatch: pytest.MonkeyPatch, error: errors.RerankError
) -> None:
    proxy.plan = [error, error]
    with pytest.raises(RuntimeError, match=error.message):
        langchain(proxy.url, monkeypatch).rerank(DOCUMENTS, QUERY)
    with pytest.raises(RuntimeError, match=error.message):
        JinaRerank(base_url=f"{proxy.url}/v1", api_key="key", model=MODEL).postprocess_nodes(
            NODES, QueryBundle(QUERY)
        )


def test_haystack(url: str) -> None:
    ranker = JinaRanker(
        model=MODEL, api_key=Secret.from_token("key"), base_url=f"{url}/v1/rerank", top_k=2
    )
    documents = [HaystackDocument(content=text) for text in DOCUMENTS]
    answer: Any = ranker.run(query=QUERY, documents=documents)
    assert answer["documents"][0].content == DOCUMENTS[BEST]
    assert answer["meta"]["usage"]["total_tokens"] > 0
