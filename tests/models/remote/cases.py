"""For every provider: the request it expects, and a server that answers as documented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from models.remote.types import RemoteSpec
from tests.models.remote import fake_provider as fake

DOCUMENTS = ["0.25 first", "0.75 second", "0.5 third", "0.125 fourth", "0.875 fifth"]
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


def spec_of(name: str, url: str, **more: Any) -> RemoteSpec:
    case = CASES[name]
    given = {"model": case.model, "base_url": url, "api_key_env": "A_KEY", **case.more, **more}
    return RemoteSpec("mine", name, **given)
