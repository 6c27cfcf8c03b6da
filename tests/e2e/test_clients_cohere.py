"""Cohere's SDK with only its base URL changed, in the versions in use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cohere
import pytest
from cohere import errors as sdk
from cohere.core.api_error import ApiError
from httpx import TimeoutException

from serve_app import errors
from tests.e2e.flaky import Flaky
from tests.e2e.texts import BEST, DOCUMENTS, MODEL, QUERY

pytestmark = pytest.mark.usefixtures("closed_connections")
ROOT = Path(__file__).parent.parent.parent
NO_RETRY: Any = {"max_retries": 0}


def clients(url: str) -> list[Any]:
    return [
        cohere.Client("key", base_url=url, timeout=30),
        cohere.ClientV2("key", base_url=url, timeout=30),
    ]


def ask(client: Any, **more: Any) -> Any:
    return client.rerank(model="rerank-v3.5", query=QUERY, documents=DOCUMENTS, **more)


def test_both_clients_rank(url: str) -> None:
    for client, version in zip(clients(url), ("1", "2"), strict=True):
        answer = ask(client, top_n=2)
        assert answer.results[0].index == BEST
        assert len(answer.results) == 2
        assert 0 <= answer.results[0].relevance_score <= 1
        assert answer.id
        assert answer.meta.api_version.version == version
        assert answer.meta.billed_units.search_units == 1
        assert answer.meta.tokens.input_tokens > 0


async def test_both_async_clients_rank(url: str) -> None:
    kinds: list[Any] = [cohere.AsyncClient, cohere.AsyncClientV2]
    for kind in kinds:
        answer = await ask(kind("key", base_url=url, timeout=30), top_n=1)
        assert [hit.index for hit in answer.results] == [BEST]


def test_v1_documents_fields_and_warnings(url: str) -> None:
    client = cohere.Client("key", base_url=url, timeout=30)
    answer = client.rerank(
        model="rerank-english-v3.0",
        query=QUERY,
        documents=[{"title": "Animals", "body": text} for text in DOCUMENTS],
        rank_fields=["title", "body"],
        return_documents=True,
        max_chunks_per_doc=1,
    )
    assert answer.results[0].index == BEST
    plain = ask(client, return_documents=True)
    assert plain.results[0].document.text == DOCUMENTS[BEST]
    long = client.rerank(model=MODEL, query="q", documents=["word " * 5000], max_chunks_per_doc=1)
    assert long.meta is not None
    assert long.meta.warnings
    assert "index 0" in long.meta.warnings[0]


def test_v2_tokens_priority_and_cached_tokens(url: str) -> None:
    client = cohere.ClientV2("key", base_url=url, timeout=30)
    first = ask(client, max_tokens_per_doc=300, priority=5)
    again = ask(client, max_tokens_per_doc=300, priority=5)
    assert first.results == again.results
    assert again.meta.cached_tokens == again.meta.tokens.input_tokens


def test_rejections_raise_the_sdks_exceptions(url: str) -> None:
    for client in clients(url):
        cases: list[tuple[type[ApiError], dict[str, Any]]] = [
            (sdk.BadRequestError, {"query": "", "documents": DOCUMENTS}),
            (sdk.BadRequestError, {"query": QUERY, "documents": []}),
            (sdk.UnprocessableEntityError, {"query": QUERY, "documents": ["a"], "top_n": 0}),
            (sdk.NotFoundError, {"query": QUERY, "documents": ["a"], "model": "no-such"}),
        ]
        for kind, body in cases:
            with pytest.raises(kind) as caught:
                client.rerank(**{"model": MODEL, **body}, request_options=NO_RETRY)
            body_of: Any = caught.value.body
            assert len(body_of["message"]) > 10
            assert body_of["id"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.Overloaded("full"), sdk.TooManyRequestsError),
        (errors.ScoringFailed("no score"), sdk.InternalServerError),
        (errors.ModelUnavailable("away"), sdk.ServiceUnavailableError),
        (errors.DeadlineExceeded("slow"), sdk.GatewayTimeoutError),
        (errors.BodyTooLarge("large"), ApiError),
    ],
)
def test_each_error_raises_its_exception(
    proxy: Flaky, error: errors.RerankError, kind: type[ApiError]
) -> None:
    for client in clients(proxy.url):
        proxy.plan = [error]
        with pytest.raises(kind) as caught:
            ask(client, request_options=NO_RETRY)
        assert caught.value.status_code == error.status


def test_it_retries_temporary_errors(proxy: Flaky) -> None:
    for client in clients(proxy.url):
        proxy.seen = 0
        proxy.plan = [errors.Overloaded("full"), errors.ModelUnavailable("away")]
        assert ask(client, request_options={"max_retries": 2}).results[0].index == BEST
        assert proxy.seen == 3


def test_it_times_out(proxy: Flaky) -> None:
    for client in clients(proxy.url):
        proxy.plan = [3.0]
        with pytest.raises(TimeoutException):
            ask(client, request_options={"timeout_in_seconds": 1, "max_retries": 0})


def _spans(client: cohere.ClientV2, documents: list[str], **wanted: Any) -> Any:
    """Return the spans of the best document."""
    more: dict[str, Any] = {"relevant_spans": wanted}
    if not hasattr(cohere, "RerankRelevantSpans"):  # this version does not know the argument
        more = {"request_options": {"additional_body_parameters": more}}
    answer = client.rerank(model=MODEL, query=QUERY, documents=documents, **more)
    return getattr(answer.results[0], "relevant_spans", None)


def test_relevant_spans(url: str) -> None:
    client = cohere.ClientV2("key", base_url=url, timeout=30)
    documents = [DOCUMENTS[0], f"It rained. {DOCUMENTS[BEST]} 🐼 The end."]
    wanted = {"threshold": 0.2, "max_spans": 1}
    [found] = _spans(client, documents, mode="enabled", **wanted)
    span = dict(found)
    assert documents[1][span["start"] : span["end"]] == DOCUMENTS[BEST]
    assert 0.2 <= span["score"] <= 1
    assert _spans(client, documents, mode="disabled", **wanted) is None


@pytest.mark.slow
def test_the_newest_sdk_in_addition_to_the_one_pinned_by_frameworks(url: str) -> None:
    newest = Path(sys.prefix) / "newest"
    assert (newest / "cohere").is_dir(), "`make test` installs it there"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-k", "not newest", __file__],
        env={
            **os.environ,
            "RERANK_E2E_URL": url,
            "PYTHONPATH": f"{newest}{os.pathsep}{ROOT}",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
