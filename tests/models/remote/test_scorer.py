"""How requests are split to fit a provider's limits, sent concurrently, and counted."""

from __future__ import annotations

from typing import Any

import pytest

from models.registry import load_remote
from models.remote.errors import RemoteRateLimited, RemoteRefused
from models.remote.types import RemoteSpec
from models.types import ScoreOptions
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import KEY, spec_of


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
