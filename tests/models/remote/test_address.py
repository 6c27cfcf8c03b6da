"""The URL of each call."""

from __future__ import annotations

import pytest

from models.registry import load_remote
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import DOCUMENTS, KEY, spec_of


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
