"""Voyage's SDK and LangChain's wrapper with only their base URL changed."""

from __future__ import annotations

from typing import Any

import pytest
import voyageai
from langchain_core.documents import Document
from langchain_voyageai import VoyageAIRerank
from pydantic import SecretStr
from voyageai import error as sdk

from serve_app import errors
from tests.e2e.flaky import Flaky
from tests.e2e.texts import BEST, DOCUMENTS, QUERY

pytestmark = pytest.mark.usefixtures("closed_connections")
# Its own base path, and two that it shares with others.
BASES = pytest.mark.parametrize("base", ["/voyage/v1", "/v1", ""])


def ask(client: Any, **more: Any) -> Any:
    return client.rerank(QUERY, DOCUMENTS, model="rerank-2.5", **more)


@BASES
async def test_it_ranks(url: str, base: str) -> None:
    client: Any = voyageai.Client(api_key="key", base_url=url + base)
    answer = ask(client, top_k=2)
    assert answer.results[0].index == BEST
    assert answer.results[0].document == DOCUMENTS[BEST]
    assert len(answer.results) == 2
    assert answer.total_tokens > 0
    later: Any = voyageai.AsyncClient(api_key="key", base_url=url + base)
    assert (await ask(later)).results[0].index == BEST


def test_a_document_that_is_too_long_is_rejected_without_truncation(url: str) -> None:
    client: Any = voyageai.Client(api_key="key", base_url=f"{url}/voyage/v1")
    with pytest.raises(sdk.InvalidRequestError, match="exceeds the maximum length"):
        client.rerank("q", ["word " * 5000], model="rerank-2.5", truncation=False)
    assert client.rerank("q", ["word " * 5000], model="rerank-2.5").results


def test_invalid_requests_are_rejected(url: str) -> None:
    client: Any = voyageai.Client(api_key="key", base_url=f"{url}/voyage/v1")
    with pytest.raises(sdk.InvalidRequestError, match="top_k"):
        ask(client, top_k=0)
    with pytest.raises(sdk.InvalidRequestError, match="query"):
        client.rerank("", DOCUMENTS, model="rerank-2.5")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.Overloaded("full"), sdk.RateLimitError),
        (errors.ScoringFailed("no score"), sdk.ServerError),
        (errors.ModelUnavailable("away"), sdk.ServiceUnavailableError),
        (errors.DeadlineExceeded("slow"), sdk.ServiceUnavailableError),
        (errors.UnknownModel("no such"), sdk.APIError),
        (errors.InvalidRequest("wrong"), sdk.InvalidRequestError),
    ],
)
def test_each_error_raises_its_exception(
    proxy: Flaky, error: errors.RerankError, kind: type[Exception]
) -> None:
    client: Any = voyageai.Client(api_key="key", base_url=f"{proxy.url}/voyage/v1")
    proxy.plan = [error]
    with pytest.raises(kind):
        ask(client)


def test_it_retries_and_times_out(proxy: Flaky) -> None:
    client: Any = voyageai.Client(
        api_key="key", base_url=f"{proxy.url}/voyage/v1", max_retries=3, timeout=1
    )
    proxy.plan = [errors.Overloaded("full"), errors.ModelUnavailable("away")]
    assert ask(client).results[0].index == BEST
    assert proxy.seen == 3
    hasty: Any = voyageai.Client(api_key="key", base_url=f"{proxy.url}/voyage/v1", timeout=1)
    proxy.plan = [3.0]
    with pytest.raises(sdk.Timeout):
        ask(hasty)


async def test_langchain(url: str) -> None:
    ranker = VoyageAIRerank(
        model="rerank-2.5", api_key=SecretStr("key"), base_url=f"{url}/voyage/v1", top_k=2
    )
    documents = [Document(text) for text in DOCUMENTS]
    best, _ = ranker.compress_documents(documents, QUERY)
    assert best.page_content == DOCUMENTS[BEST]
    best, _ = await ranker.acompress_documents(documents, QUERY)
    assert best.page_content == DOCUMENTS[BEST]
