"""How requests are split to fit a provider's limits, sent concurrently, and counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.images import ImageDocument
from models.registry import load_remote
from models.remote import cutting
from models.remote.errors import RemoteRateLimited, RemoteRefused
from models.remote.types import RemoteSpec
from models.types import ScoreOptions
from tests.models.remote import fake_provider as fake
from tests.models.remote.test_providers import KEY, spec_of

IMAGE = "data:image/png;base64,AAAA"


async def test_large_requests_are_split_and_sent_concurrently() -> None:
    documents = [f"{i / 1000} document" for i in range(200)]
    with fake.serving(fake.tei, delay_s=0.05) as provider:
        scorer = load_remote(spec_of("tei", provider.url, parallel_calls=3), {"A_KEY": KEY})
        scores = await scorer.score("q", documents)
    assert [s.logit for s in scores] == pytest.approx([i / 1000 for i in range(200)])
    assert sorted(len(a.body["texts"]) for a in provider.received) == [8, *[32] * 6]
    assert 1 < provider.max_concurrent <= 3


@pytest.mark.parametrize(
    ("name", "model", "calls"),
    [("qwen", "gte-rerank-v2", 4), ("qwen", "qwen3-rerank", 1), ("voyage", "rerank-1", 1)],
)
async def test_the_token_limit_of_a_call_depends_on_the_model(
    name: str, model: str, calls: int
) -> None:
    """The query counts once per document: 100 times (100 + 900) tokens."""
    documents = ["0.5 " + "x" * 2696] * 100
    with fake.serving(fake.dashscope if name == "qwen" else fake.voyage) as provider:
        scorer = load_remote(spec_of(name, provider.url, model=model), {"A_KEY": KEY})
        await scorer.score("q" * 300, documents)
    assert len(provider.received) == calls


async def test_one_failed_call_fails_the_request() -> None:
    with fake.serving(fake.tei) as provider:
        scorer = load_remote(spec_of("tei", provider.url, retries=0), {"A_KEY": KEY})
        provider.replies = [fake.as_json({"error": "no"}, 422)]
        with pytest.raises(RemoteRefused):
            await scorer.score("q", ["0.5"] * 100)


async def test_texts_that_the_provider_would_reject_are_truncated() -> None:
    with fake.serving(fake.cohere) as provider:
        scorer = load_remote(spec_of("qianfan", provider.url), {"A_KEY": KEY})
        scores = await scorer.score("q" * 5000, ["0.5 " + "é" * 9000, "0.25 short"])
    assert [s.truncated for s in scores] == [True, False]
    assert [len(d) for d in provider.received[0].body["documents"]] == [4096, 10]
    assert len(provider.received[0].body["query"]) == 1600


async def test_max_tokens_per_doc_is_passed_on_or_applied_by_estimate() -> None:
    options = ScoreOptions(max_tokens_per_doc=5)
    with fake.serving(fake.cohere) as provider:
        await load_remote(spec_of("cohere", provider.url), {"A_KEY": KEY}).score(
            "q", ["0.5"], options
        )
    assert provider.received[0].body["max_tokens_per_doc"] == 5
    with fake.serving(fake.common) as provider:
        spec = spec_of("together", provider.url, max_tokens_per_doc=9)
        (score,) = await load_remote(spec, {"A_KEY": KEY}).score("q", ["0.5 " + "猫" * 90], options)
    assert (provider.received[0].body["documents"], score.truncated) == (["0.5 猫猫猫"], True)
    scorer, long = load_remote(spec, {"A_KEY": KEY}), ScoreOptions(long_document="max_passage")
    with pytest.raises(RemoteRefused, match="long_document"):
        await scorer.score("q", ["0.5"], long)


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


async def test_tokens_are_counted_and_limited_per_hour() -> None:
    with fake.serving(fake.pinecone) as provider:
        spec = spec_of("pinecone", provider.url, max_tokens_per_hour=100)
        scorer = load_remote(spec, {"A_KEY": KEY})
        scores = await scorer.score("abc", ["0.5 " + "x" * 296] * 2)
        # Pinecone reports no tokens: the estimate is 100 per document plus 1 for the query.
        assert [s.tokens for s in scores] == [101, 101]
        assert (scorer.counts["billed_units"], scorer.counts["tokens"]) == (1, 202)
        with pytest.raises(RemoteRateLimited, match="100 tokens per hour") as caught:
            await scorer.score("abc", ["0.5"])
    assert 3500 < (caught.value.retry_after_s or 0) <= 3600
    assert len(provider.received) == 1


async def test_the_calls_for_one_request_are_limited() -> None:
    spec = RemoteSpec("m", "tei", base_url="http://127.0.0.1:9", max_calls=2)
    with pytest.raises(RemoteRefused, match="need 4 calls, and the maximum per request is 2"):
        await load_remote(spec, {}).score("q", ["0.5"] * 100)


async def test_logits_need_the_scores_setting() -> None:
    def raw(body: Any) -> Any:
        return {"results": [{"index": 0, "relevance_score": -4.5}]}

    with fake.serving(raw) as provider:
        spec = spec_of("localai", provider.url, scores="logit")
        scorer = load_remote(spec, {"A_KEY": KEY})
        (score,) = await scorer.score("q", ["a"])
    assert (score.logit, scorer.info.activation) == (-4.5, "sigmoid")


@given(
    st.integers(0, 50),
    st.lists(st.integers(1, 100), max_size=60),
    st.integers(1, 20),
    st.none() | st.integers(1, 300),
)
def test_every_document_is_in_exactly_one_call_within_the_limits(
    query: int, tokens: list[int], max_documents: int, max_tokens: int | None
) -> None:
    parts = cutting.calls(query, tokens, max_documents=max_documents, max_tokens=max_tokens)
    assert [i for part in parts for i in part] == list(range(len(tokens)))
    for part in parts:
        assert 1 <= len(part) <= max_documents
        cost = sum(query + tokens[i] for i in part)
        assert len(part) == 1 or max_tokens is None or cost <= max_tokens


@given(st.integers(0, 10_000), st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_shares_are_proportional_and_add_up(total: int, weights: list[int]) -> None:
    shared = cutting.shares(total, weights)
    assert sum(shared) == total
    for share, weight in zip(shared, weights, strict=True):
        assert abs(share - total * weight / sum(weights)) <= 1


@given(st.text(), st.integers(1, 20))
def test_a_shortened_text_is_a_prefix_within_the_token_limit(text: str, tokens: int) -> None:
    short = cutting.shorten(text.encode(errors="ignore").decode(), tokens=tokens)
    assert text.encode(errors="ignore").decode().startswith(short)
    assert cutting.estimate(short) <= tokens
