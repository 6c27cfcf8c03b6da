"""Images and instructions in the request forms of providers."""

from __future__ import annotations

import pytest

from models.images import ImageDocument
from models.registry import load_remote
from models.remote.errors import RemoteRefused
from models.types import ScoreOptions
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import KEY, spec_of

IMAGE = "data:image/png;base64,AAAA"


async def test_jina_accepts_images_as_documents_and_as_the_query() -> None:
    with fake.serving(fake.jina) as provider:
        scorer = load_remote(spec_of("jina", provider.url), {"A_KEY": KEY})
        await scorer.score("q", ["0.5 text", ImageDocument(IMAGE, "0.5")])
        await scorer.score("", ["0.5 text"], ScoreOptions(query_image="https://x.org/a.png"))
    first, second = (request.body for request in provider.received)
    assert first["documents"] == [{"text": "0.5 text"}, {"image": IMAGE}]
    assert first["query"] == "q"
    assert second["query"] == {"image": "https://x.org/a.png"}
    assert second["documents"] == ["0.5 text"]
    assert (scorer.info.takes_images, scorer.info.takes_query_image) == (True, True)
    with fake.serving(fake.cohere) as provider:
        scorer = load_remote(spec_of("cohere", provider.url), {"A_KEY": KEY})
        with pytest.raises(RemoteRefused, match="only text, not images"):
            await scorer.score("q", [ImageDocument(IMAGE)])


async def test_the_instruction_is_sent_to_models_that_support_it() -> None:
    with fake.serving(fake.dashscope) as provider:
        spec = spec_of("qwen", provider.url, instruction="Find cats")
        scorer = load_remote(spec, {"A_KEY": KEY})
        await scorer.score("q", ["0.5"])
        await scorer.score("q", ["0.5"], ScoreOptions(instruction="Find dogs"))
    sent = [request.body["parameters"]["instruct"] for request in provider.received]
    assert sent == ["Find cats", "Find dogs"]
    assert scorer.info.takes_instruction
