"""Credentials and access tokens of particular providers."""

from __future__ import annotations

from models.registry import load_remote
from models.remote.types import RemoteSpec
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import DOCUMENTS, spec_of


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
