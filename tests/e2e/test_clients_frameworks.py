"""Frameworks that wrap rerank APIs: LangChain, LlamaIndex, Haystack, LiteLLM and others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import litellm
import pytest
from agno.knowledge.document import Document as AgnoDocument
from agno.knowledge.reranker.cohere import CohereReranker
from haystack import Document as HaystackDocument
from haystack.utils import Secret
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.nvidia import NvidiaRanker
from haystack_integrations.components.rankers.vllm import VLLMRanker
from langchain_cohere import CohereRerank as LangChainCohere
from langchain_core.documents import Document
from llama_index.core import QueryBundle
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.cohere_rerank import CohereRerank as LlamaIndexCohere
from llama_index.postprocessor.nvidia_rerank import NVIDIARerank
from pydantic import SecretStr
from rerankers import Reranker

from serve_app import errors
from tests.e2e.flaky import Flaky
from tests.e2e.texts import BEST, DOCUMENTS, MODEL, QUERY

pytestmark = pytest.mark.usefixtures("closed_connections")
HOSTED = "rerank-v3.5"
NODES = [NodeWithScore(node=TextNode(text=text)) for text in DOCUMENTS]
HAYSTACK = [HaystackDocument(content=text) for text in DOCUMENTS]


async def test_langchain_cohere(url: str) -> None:
    ranker = LangChainCohere(model=HOSTED, base_url=url, cohere_api_key=SecretStr("key"), top_n=2)
    documents = [Document(text, metadata={"n": i}) for i, text in enumerate(DOCUMENTS)]
    for answer in (
        ranker.compress_documents(documents, QUERY),
        await ranker.acompress_documents(documents, QUERY),
    ):
        best, _ = answer
        assert best.metadata["n"] == BEST
        assert 0 <= best.metadata["relevance_score"] <= 1
    rows = [{"title": "Animals", "text": text} for text in DOCUMENTS]
    assert ranker.rerank(rows, QUERY, rank_fields=["text"])[0]["index"] == BEST
    with pytest.raises(cohere.NotFoundError):
        ranker.rerank(DOCUMENTS, QUERY, model="no-such")


def test_llama_index_cohere(url: str, proxy: Flaky) -> None:
    ranker = LlamaIndexCohere(model=HOSTED, base_url=url, api_key="key", top_n=2)
    best, _ = ranker.postprocess_nodes(NODES, QueryBundle(QUERY))
    assert best.node.get_content() == DOCUMENTS[BEST]
    again = LlamaIndexCohere(model=HOSTED, base_url=proxy.url, api_key="key", max_retries=1)
    proxy.plan = [errors.Overloaded("full")]
    best, _ = again.postprocess_nodes(NODES, QueryBundle(QUERY))
    assert best.node.get_content() == DOCUMENTS[BEST]
    assert proxy.seen == 2


def test_llama_index_nvidia(url: str) -> None:
    ranker = NVIDIARerank(base_url=f"{url}/v1", model=MODEL, top_n=2, api_key="key")
    best, _ = ranker.postprocess_nodes(NODES, QueryBundle(QUERY))
    assert best.node.get_content() == DOCUMENTS[BEST]


def test_haystack_cohere(url: str) -> None:
    ranker = CohereRanker(model=HOSTED, api_key=Secret.from_token("key"), api_base_url=url, top_k=2)
    answer: Any = ranker.run(query=QUERY, documents=HAYSTACK)
    assert answer["documents"][0].content == DOCUMENTS[BEST]


def test_haystack_nvidia(url: str) -> None:
    ranker = NvidiaRanker(
        model=MODEL, api_key=Secret.from_token("key"), api_url=f"{url}/v1", truncate="END", top_k=2
    )
    answer: Any = ranker.run(query=QUERY, documents=HAYSTACK)
    assert answer["documents"][0].content == DOCUMENTS[BEST]
    strict = NvidiaRanker(
        model=MODEL, api_key=Secret.from_token("key"), api_url=f"{url}/v1", truncate="NONE"
    )
    with pytest.raises(ValueError, match="exceeds the maximum length"):
        strict.run(query="q", documents=[HaystackDocument(content="word " * 5000)])


@pytest.mark.parametrize("base", ["/v1", ""])
def test_haystack_vllm(url: str, base: str) -> None:
    ranker = VLLMRanker(
        model=MODEL,
        api_base_url=url + base,
        top_k=2,
        extra_parameters={"truncate_prompt_tokens": 256},
    )
    answer: Any = ranker.run(query=QUERY, documents=HAYSTACK)
    assert answer["documents"][0].content == DOCUMENTS[BEST]


# Each of LiteLLM's providers, with the base URL from its documentation.
PROVIDERS = pytest.mark.parametrize(
    ("model", "base"),
    [
        (f"cohere/{HOSTED}", ""),
        (f"cohere/{HOSTED}", "/v2/rerank"),
        ("jina_ai/jina-reranker-v2-base-multilingual", "/v1/rerank"),
        (f"infinity/{MODEL}", ""),
        (f"hosted_vllm/{MODEL}", "/v1"),
        (f"hosted_vllm/{MODEL}", "/vllm"),
        ("huggingface/BAAI/bge-reranker-base", ""),
        ("voyage/rerank-2.5", "/voyage/v1/rerank"),
        (f"nvidia_nim/{MODEL}", ""),
        (f"nvidia_nim/ranking/{MODEL}", ""),
    ],
)


@pytest.fixture(autouse=True)
def fresh_litellm() -> Iterator[None]:
    """It keeps its clients for later calls; those of a test are closed."""
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()


@PROVIDERS
async def test_litellm(url: str, model: str, base: str) -> None:
    body: dict[str, Any] = {
        "model": model,
        "query": QUERY,
        "documents": DOCUMENTS,
        "top_n": 2,
        "api_base": url + base,
        "api_key": "key",
    }
    for answer in (litellm.rerank(**body), await litellm.arerank(**body)):
        results: Any = answer.results  # type: ignore[union-attr]
        assert results[0]["index"] == BEST
        assert results[0]["relevance_score"] >= results[1]["relevance_score"]


@pytest.mark.parametrize(
    "error",
    [errors.Overloaded("full"), errors.UnknownModel("no such"), errors.ModelUnavailable("away")],
)
def test_litellm_on_errors(proxy: Flaky, error: errors.RerankError) -> None:
    proxy.plan = [error]
    # It raises one exception class for all errors of rerank providers, with the response.
    with pytest.raises(litellm.exceptions.APIConnectionError, match=error.message):
        litellm.rerank(
            model=f"cohere/{HOSTED}",
            query=QUERY,
            documents=DOCUMENTS,
            api_base=proxy.url,
            api_key="key",
            max_retries=0,
        )


@pytest.mark.parametrize(
    ("provider", "path"),
    [
        ("cohere", "/v1/rerank"),
        ("jina", "/v1/rerank"),
        ("voyage", "/voyage/v1/rerank"),
        ("voyage", "/v1/rerank"),
        ("text-embeddings-inference", "/rerank"),
    ],
)
def test_rerankers(url: str, provider: str, path: str) -> None:
    ranker: Any = Reranker(
        MODEL,
        model_type="APIRanker",
        api_provider=provider,
        api_key="key",
        url=url + path,
        verbose=0,
    )
    answer = ranker.rank(query=QUERY, docs=DOCUMENTS, doc_ids=[7, 8, 9])
    assert answer.top_k(1)[0].doc_id == [7, 8, 9][BEST]


def test_agno_through_cohere(url: str) -> None:
    client = cohere.Client("key", base_url=url)
    documents = [AgnoDocument(content=text) for text in DOCUMENTS]
    best, *_ = CohereReranker(cohere_client=client).rerank(QUERY, documents)
    assert best.content == DOCUMENTS[BEST]
    assert best.reranking_score is not None


def test_responses_are_compressed_on_request(url: str) -> None:
    body = {"query": QUERY, "documents": [f"{text} {i}" for i, text in enumerate(DOCUMENTS * 50)]}
    for encoding in ("gzip", "zstd"):
        answer = httpx.post(
            f"{url}/v1/rerank", json=body, headers={"accept-encoding": encoding}, timeout=60
        )
        assert answer.headers["content-encoding"] == encoding
        assert len(answer.json()["results"]) == 150
