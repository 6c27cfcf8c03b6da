"""Clients of other servers: Infinity, TEI, Xinference, vLLM, SGLang, llama.cpp, Mixedbread, NIM."""

from __future__ import annotations

from typing import Any

import httpx
import infinity_client
import mixedbread
import pytest
from agno.knowledge.document import Document as AgnoDocument
from agno.knowledge.reranker.infinity import InfinityReranker
from infinity_client.api.default import rerank as infinity
from infinity_client.errors import UnexpectedStatus
from infinity_client.models import RerankInput
from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import NVIDIARerank
from llama_index.core import QueryBundle
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference
from xinference_client import RESTfulClient

from serve_app import errors
from tests.e2e.flaky import Flaky
from tests.e2e.texts import BEST, DOCUMENTS, MODEL, QUERY

pytestmark = pytest.mark.usefixtures("closed_connections")


async def test_infinity_client(url: str) -> None:
    client = infinity_client.Client(base_url=url)
    body = RerankInput(query=QUERY, documents=DOCUMENTS, return_documents=True, top_n=2)
    for answer in (
        infinity.sync(client=client, body=body),
        await infinity.asyncio(client=infinity_client.Client(base_url=url), body=body),
    ):
        assert answer is not None
        best, _ = answer.results  # type: ignore[union-attr]
        assert (best.index, best.document) == (BEST, DOCUMENTS[BEST])
        assert answer.usage.prompt_tokens > 0  # type: ignore[union-attr]
        assert answer.object_.value == "rerank"  # type: ignore[union-attr]
        assert answer.id  # type: ignore[union-attr]


def test_infinity_client_errors_and_timeouts(url: str, proxy: Flaky) -> None:
    strict = infinity_client.Client(base_url=url, raise_on_unexpected_status=True)
    with pytest.raises(UnexpectedStatus) as caught:
        infinity.sync(client=strict, body=RerankInput(query=" ", documents=["a"]))
    assert caught.value.status_code == 400
    wrong = infinity.sync_detailed(
        client=strict, body=RerankInput(query="q", documents=["a"], top_n=0)
    )
    assert wrong.status_code == 422
    proxy.plan = [3.0]
    hasty = infinity_client.Client(base_url=proxy.url, timeout=httpx.Timeout(1.0))
    with pytest.raises(httpx.TimeoutException):
        infinity.sync(client=hasty, body=RerankInput(query="q", documents=["a"]))


def test_agno_through_infinity(url: str) -> None:
    documents = [AgnoDocument(content=text) for text in DOCUMENTS]
    best, *_ = InfinityReranker(url=url, model=MODEL).rerank(QUERY, documents)
    assert best.content == DOCUMENTS[BEST]
    assert best.reranking_score is not None


def test_tei_as_documented_and_as_used_by_ragflow(url: str) -> None:
    body = {"query": QUERY, "texts": DOCUMENTS, "raw_scores": False, "truncate": True}
    ranks = httpx.post(f"{url}/rerank", json=body, timeout=30).json()
    assert ranks[0]["index"] == BEST
    assert [rank["score"] for rank in ranks] == sorted((r["score"] for r in ranks), reverse=True)
    assert set(ranks[0]) == {"index", "score"}
    raw = httpx.post(f"{url}/rerank", json={**body, "raw_scores": True, "return_text": True})
    assert raw.json()[0]["text"] == DOCUMENTS[BEST]
    info = httpx.get(f"{url}/info").json()
    assert "reranker" in info["model_type"]
    assert info["max_input_length"] > 0


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"query": "q", "texts": []}, 400, "Empty"),
        ({"query": "q", "texts": "a"}, 422, "Validation"),
        ({"query": "q", "texts": ["a"] * 10_001}, 413, "Validation"),
        ({"query": "q", "texts": ["word " * 5000], "truncate": False}, 413, "Validation"),
    ],
)
def test_tei_errors(url: str, body: dict[str, Any], status: int, kind: str) -> None:
    answer = httpx.post(f"{url}/rerank", json=body, timeout=30)
    assert answer.status_code == status
    assert answer.json()["error_type"] == kind


def test_llama_index_through_tei(url: str) -> None:
    ranker = TextEmbeddingInference(base_url=url, top_n=2)
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
    best, _ = ranker.postprocess_nodes(nodes, QueryBundle(QUERY))
    assert best.node.get_content() == DOCUMENTS[BEST]


def test_xinference_client(url: str) -> None:
    model: Any = RESTfulClient(url).get_model(MODEL)
    answer = model.rerank(DOCUMENTS, QUERY, top_n=2, return_documents=True, return_len=True)
    assert answer["results"][0]["index"] == BEST
    assert answer["results"][0]["document"]["text"] == DOCUMENTS[BEST]
    assert answer["meta"]["tokens"]["input_tokens"] > 0
    with pytest.raises(RuntimeError, match="top_n"):
        model.rerank(DOCUMENTS, QUERY, top_n=0)
    with pytest.raises(RuntimeError, match="no-such"):
        RESTfulClient(url).get_model("no-such")
    words = {"query": QUERY, "documents": DOCUMENTS, "return_documents": "true"}
    old = httpx.post(f"{url}/v1/rerank", json={**words, "return_len": "true"}).json()
    assert old["results"][0]["document"] == {"text": DOCUMENTS[BEST]}


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents")])
def test_vllm_scores(url: str, path: str, names: tuple[str, str]) -> None:
    one = {"model": MODEL, names[0]: QUERY, names[1]: DOCUMENTS}
    scores = [hit["score"] for hit in httpx.post(url + path, json=one).json()["data"]]
    assert max(scores) == scores[BEST]
    pairs = {"model": MODEL, names[0]: [QUERY] * 3, names[1]: DOCUMENTS}
    same = [hit["score"] for hit in httpx.post(url + path, json=pairs).json()["data"]]
    assert same == pytest.approx(scores, abs=1e-2)
    wrong = httpx.post(url + path, json={names[0]: ["a", "b"], names[1]: ["c", "d", "e"]})
    assert wrong.status_code == 400
    assert wrong.json()["error"]["type"] == "BadRequestError"


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank", "/vllm/rerank"])
def test_vllm_rerank(url: str, path: str) -> None:
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "truncate_prompt_tokens": -1}
    answer = httpx.post(url + path, json=body).json()
    assert answer["results"][0]["index"] == BEST
    assert answer["usage"]["total_tokens"] > 0
    if path != "/rerank":
        assert answer["results"][0]["document"]["text"] == DOCUMENTS[BEST]


@pytest.mark.parametrize("path", ["/rerank", "/reranking", "/v1/rerank", "/v1/reranking"])
def test_llama_cpp(url: str, path: str) -> None:
    body = {"model": MODEL, "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
    answer = httpx.post(url + path, json=body).json()
    assert answer["results"][0]["index"] == BEST
    assert answer["results"][0]["relevance_score"] > answer["results"][1]["relevance_score"]


def test_sglang(url: str) -> None:
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    answer = httpx.post(f"{url}/sglang/v1/rerank", json=body).json()
    assert answer[0]["document"] == DOCUMENTS[BEST]
    assert answer[0]["score"] > answer[1]["score"]


async def test_mixedbread(url: str, proxy: Flaky) -> None:
    client = mixedbread.Mixedbread(api_key="key", base_url=url)
    later = mixedbread.AsyncMixedbread(api_key="key", base_url=url)
    body: dict[str, Any] = {
        "model": "mixedbread-ai/mxbai-rerank-large-v2",
        "query": QUERY,
        "input": DOCUMENTS,
        "top_k": 2,
        "return_input": True,
    }
    for answer in (client.rerank(**body), await later.rerank(**body)):
        assert (answer.data[0].index, answer.data[0].input) == (BEST, DOCUMENTS[BEST])
        assert (answer.top_k, answer.return_input) == (2, True)
        assert answer.usage.total_tokens > 0
    with pytest.raises(mixedbread.UnprocessableEntityError, match="top_k"):
        client.rerank(**{**body, "top_k": 0})
    with pytest.raises(mixedbread.NotFoundError):
        client.rerank(**{**body, "model": "no-such"})
    proxied = mixedbread.Mixedbread(api_key="key", base_url=proxy.url, max_retries=2)
    proxy.plan = [errors.Overloaded("full"), errors.ModelUnavailable("away")]
    assert proxied.rerank(**body).data[0].index == BEST
    assert proxy.seen == 3
    proxy.plan = [3.0]
    with pytest.raises(mixedbread.APITimeoutError):
        proxied.with_options(max_retries=0, timeout=1.0).rerank(**body)


async def test_langchain_through_nvidia(url: str) -> None:
    ranker = NVIDIARerank(base_url=f"{url}/v1", model=MODEL, top_n=2, truncate="END")
    documents = [Document(page_content=text) for text in DOCUMENTS]
    best, _ = ranker.compress_documents(documents, QUERY)
    assert best.page_content == DOCUMENTS[BEST]
    best, _ = await ranker.acompress_documents(documents, QUERY)
    assert best.page_content == DOCUMENTS[BEST]


def test_langchain_through_nvidia_errors(url: str, proxy: Flaky) -> None:
    ranker = NVIDIARerank(base_url=f"{url}/v1", model=MODEL, truncate="NONE")
    with pytest.raises(Exception, match=r"\[400\]"):
        ranker.compress_documents([Document(page_content="word " * 5000)], "q")
    flaky = NVIDIARerank(base_url=f"{proxy.url}/v1", model=MODEL)
    proxy.plan = [errors.Overloaded("the queue is full")]
    with pytest.raises(Exception, match="the queue is full"):
        flaky.compress_documents([Document(page_content="a")], "q")
