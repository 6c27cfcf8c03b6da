"""Every provider in the table, against a server that answers as its documentation describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from models.registry import load_remote
from models.remote.providers import PROVIDERS
from models.remote.types import RemoteSpec
from models.types import relevance
from tests.models.remote import fake_provider as fake

DOCUMENTS = ["0.25 first", "0.75 second", "0.5 third", "0.125 fourth", "0.875 fifth"]
VALUES = [0.25, 0.75, 0.5, 0.125, 0.875]
KEY = "key-of-a-customer"


@dataclass(frozen=True)
class Case:
    """The request that a provider expects, and how it answers."""

    answer: fake.Answer
    path: str
    header: tuple[str, str] | None = ("authorization", f"Bearer {KEY}")
    model: str | None = "some-model"
    sent_model: str | None = None
    tokens: int | None = 34
    key: str = KEY
    more: Mapping[str, Any] = field(default_factory=dict)


COMMON = Case(fake.common, "/v1/rerank")
CASES = {
    "cohere": Case(fake.cohere, "/v2/rerank"),
    "jina": Case(fake.jina, "/v1/rerank"),
    "voyage": Case(fake.voyage, "/v1/rerank"),
    "nvidia": Case(
        fake.nvidia,
        "/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking",
        model="nvidia/llama-3.2-nv-rerankqa-1b-v2",
    ),
    "nvidia-nim": Case(fake.nvidia, "/v1/ranking"),
    "siliconflow": Case(fake.siliconflow, "/v1/rerank"),
    "together": COMMON,
    "novita": Case(fake.cohere, "/openai/v1/rerank"),
    "gitee": COMMON,
    "302ai": COMMON,
    "jiekou": Case(fake.common, "/openai/v1/rerank"),
    "greenpt": COMMON,
    "futurmix": COMMON,
    "xinference": COMMON,
    "localai": COMMON,
    "gpustack": COMMON,
    "vllm": COMMON,
    "infinity": Case(fake.common, "/rerank"),
    "openai-style": Case(fake.common, "/rerank", model=None),
    "tei": Case(fake.tei, "/rerank", model=None, tokens=None),
    "qianfan": Case(fake.cohere, "/v2/rerank"),
    "yiyan": Case(
        fake.cohere,
        "/rpc/2.0/ai_custom/v1/wenxinworkshop/reranker/bce_reranker_base?access_token=24.token",
        header=None,
        model="bce_reranker_base",
        key="identity:secret",
    ),
    "qwen": Case(fake.dashscope, "/api/v1/services/rerank/text-rerank/text-rerank"),
    "qwen-compatible": Case(fake.cohere, "/compatible-api/v1/reranks"),
    "bedrock": Case(
        fake.bedrock,
        "/rerank",
        header=("x-amz-security-token", "session"),
        model="cohere.rerank-v3-5:0",
        tokens=None,
        key="identity:secret:session",
        more={"region": "eu-west-1"},
    ),
    "google": Case(
        fake.google,
        "/v1/projects/p1/locations/global/rankingConfigs/default_ranking_config:rank",
        tokens=None,
        more={"project": "p1"},
    ),
    "azure-cohere": Case(fake.cohere, "/v2/rerank", model=None),
    "mixedbread": Case(fake.mixedbread, "/v1/reranking"),
    "pinecone": Case(fake.pinecone, "/rerank", header=("api-key", KEY), tokens=None),
    "openai-embeddings": Case(fake.embeddings, "/v1/embeddings"),
    "lmstudio-embeddings": Case(fake.embeddings, "/v1/embeddings"),
}
ENDPOINTS = [name for name, row in PROVIDERS.items() if row.form != "chat"]


def spec_of(name: str, url: str, **more: Any) -> RemoteSpec:
    case = CASES[name]
    given = {"model": case.model, "base_url": url, "api_key_env": "A_KEY", **case.more, **more}
    return RemoteSpec("mine", name, **given)


def test_every_provider_has_a_case() -> None:
    assert set(ENDPOINTS) == set(CASES)


@pytest.mark.parametrize("name", ENDPOINTS)
async def test_requests_and_answers_follow_the_documentation(name: str) -> None:
    case, row = CASES[name], PROVIDERS[name]
    with fake.serving(case.answer) as provider:
        scorer = load_remote(spec_of(name, provider.url), {"A_KEY": case.key})
        scores = await scorer.score("a query", DOCUMENTS)
        await scorer.close()
    request = provider.received[-1]
    assert request.path == case.path
    if case.header:
        assert request.headers[case.header[0]] == case.header[1]
    assert request.headers["content-type"] == "application/json"
    for header, value in row.headers.items():
        assert request.headers[header] == value
    # The raw score is the provider's own, and relevance is within [0, 1].
    assert [s.logit for s in scores] == pytest.approx(VALUES)
    shown = [relevance(s.logit, scorer.info.activation) for s in scores]
    sigmoid = [1 / (1 + math.exp(-v)) for v in VALUES]
    assert shown == pytest.approx(sigmoid if row.scale == "logit" else VALUES)
    if case.tokens is not None:
        assert sum(s.tokens for s in scores) == case.tokens == scorer.counts["tokens"]
    assert all(s.tokens > 0 for s in scores)
    assert case.key not in repr(scorer.info)
    assert scorer.info.source == f"{name}:{case.model or 'default'}"


async def test_bedrock_requests_are_signed_and_all_pages_are_read() -> None:
    with fake.serving(fake.bedrock) as provider:
        scorer = load_remote(spec_of("bedrock", provider.url), {"A_KEY": "identity:secret:session"})
        await scorer.score("a query", DOCUMENTS)
    assert [a.body.get("nextToken") for a in provider.received] == [None, "2", "4"]
    for request in provider.received:
        signature = request.headers["authorization"]
        assert signature.startswith("AWS4-HMAC-SHA256 Credential=identity/")
        assert (
            "/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-" in signature
        )
        assert "secret" not in signature


async def test_aws_credentials_and_googles_project_are_sent() -> None:
    names = {"AWS_ACCESS_KEY_ID": "identity", "AWS_SECRET_ACCESS_KEY": "secret"}
    with fake.serving(fake.bedrock) as provider:
        spec = RemoteSpec("mine", "bedrock", "amazon.rerank-v1:0", base_url=provider.url)
        await load_remote(spec, {**names, "AWS_REGION": "eu-west-1"}).score("q", DOCUMENTS)
    assert "Credential=identity/" in provider.received[0].headers["authorization"]
    with fake.serving(fake.google) as provider:
        scorer = load_remote(spec_of("google", provider.url), {"A_KEY": "token"})
        await scorer.score("q", DOCUMENTS)
    assert provider.received[0].headers["x-goog-user-project"] == "p1"


async def test_baidus_access_token_is_fetched_once() -> None:
    with fake.serving(fake.cohere) as provider:
        scorer = load_remote(spec_of("yiyan", provider.url), {"A_KEY": "identity:secret"})
        await scorer.score("q", DOCUMENTS)
        await scorer.score("q", DOCUMENTS)
    paths = [request.path.partition("?")[0] for request in provider.received]
    assert paths.count("/oauth/2.0/token") == 1
    assert len(paths) == 3


@pytest.mark.parametrize(
    ("model", "path", "sent"),
    [
        ("nvidia/nv-rerankqa-mistral-4b-v3", "/nv-rerankqa-mistral-4b-v3", None),
        ("nv-rerankqa-mistral-4b-v3", "/nv-rerankqa-mistral-4b-v3", None),
        ("nvidia/rerank-qa-mistral-4b", "", "nv-rerank-qa-mistral-4b:1"),
        ("nv-rerank-qa-mistral-4b:1", "", "nv-rerank-qa-mistral-4b:1"),
    ],
)
async def test_nvidias_path_contains_the_model_except_for_one(
    model: str, path: str, sent: str | None
) -> None:
    with fake.serving(fake.nvidia) as provider:
        spec = spec_of("nvidia", provider.url, model=model)
        await load_remote(spec, {"A_KEY": KEY}).score("q", DOCUMENTS)
    assert provider.received[0].path == f"/v1/retrieval/nvidia{path}/reranking"
    assert provider.received[0].body["model"] == (sent or "nvidia/nv-rerankqa-mistral-4b-v3")


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("", "/v2/rerank"),
        ("/", "/v2/rerank"),
        ("/gateway", "/gateway/v2/rerank"),
        ("/gateway/v1/rerank", "/gateway/v1/rerank"),
        ("/v2/rerankers", "/v2/rerankers"),
    ],
)
async def test_the_path_is_appended_unless_base_url_names_an_endpoint(
    given: str, path: str
) -> None:
    with fake.serving(fake.cohere) as provider:
        spec = spec_of("azure-cohere", provider.url + given)
        await load_remote(spec, {"A_KEY": KEY}).score("q", DOCUMENTS)
    assert provider.received[0].path == path


async def test_a_version_in_base_url_is_not_repeated() -> None:
    with fake.serving(fake.common) as provider:
        await load_remote(spec_of("vllm", provider.url + "/v1"), {"A_KEY": KEY}).score(
            "q", DOCUMENTS
        )
    assert provider.received[0].path == "/v1/rerank"


async def test_parameters_are_added_and_null_removes_a_field() -> None:
    with fake.serving(lambda body: fake.common({**body, "return_documents": False})) as provider:
        provider.answer = lambda body: {
            "results": [{"index": 0, "relevance_score": 0.5, "document": None}]
        }
        parameters = {"overlap_tokens": 40, "return_documents": None}
        spec = spec_of("siliconflow", provider.url, parameters=parameters)
        await load_remote(spec, {"A_KEY": KEY}).score("q", ["a"])
    assert provider.received[0].body["overlap_tokens"] == 40
    assert "return_documents" not in provider.received[0].body
