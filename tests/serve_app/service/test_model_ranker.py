"""Ranking by one model: cleaning, truncation, counts, and fallbacks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.types import ScoreOptions
from serve_app.errors import (
    DocumentTooLong,
    InvalidRequest,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore
from serve_app.service.catalog import Catalog
from serve_app.service.images import ImageFetcher
from serve_app.service.model_ranker import Fallbacks, ModelRanker
from serve_app.service.rerank import RerankService
from serve_app.service.retries import RetryingModel
from serve_app.service.scoring import Scoring
from serve_app.telemetry import Telemetry, to_json
from serve_app.types import RerankRequest, SpanOptions
from tests.serve_app.fakes import INFO, WordOverlap, ask, named


class Setup:
    """Three models: the fallback of a is b, and that of b is c."""

    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.backends = {name: WordOverlap() for name in "abc"}
        for name, backend in self.backends.items():
            backend.info_ = replace(INFO, name=name)
        models = {
            name: RetryingModel(name, backend, self.telemetry, max_retries=0, timeout_s=5)
            for name, backend in self.backends.items()
        }
        admission = Admission(4, 4, 1)
        self.ranker = ModelRanker(
            models,
            Scoring(MemoryStore(2**20, 60), admission),
            Fallbacks({"a": "b", "b": "c"}, self.telemetry),
            self.telemetry,
            ImageFetcher(admission),
        )

    def fail(self, *names: str) -> None:
        for name in names:
            self.backends[name].failures = [UpstreamUnavailable(f"{name} is down")]


async def test_fallbacks_are_tried_one_after_the_other() -> None:
    setup = Setup()
    setup.fail("a", "b")
    result = await setup.ranker.rank("a", ask("a", "a b"))
    assert (result.model, [r.index for r in result.results]) == ("c", [1, 0])
    assert {"fallback", "lookup", "score"} <= result.timings_ms.keys()
    events = to_json(setup.telemetry.snapshot())["upstream_by_model"]
    assert events == {"a": {"fallbacks": 1}, "b": {"fallbacks": 1}}


async def test_the_last_failure_is_raised_if_all_fallbacks_fail() -> None:
    setup = Setup()
    setup.fail("a", "b", "c")
    with pytest.raises(UpstreamUnavailable, match="c is down"):
        await setup.ranker.rank("a", ask("a"))


async def test_text_is_normalized_only_if_the_model_wants_it() -> None:
    setup = Setup()
    setup.backends["b"].info_ = replace(INFO, name="b", normalize_text=False)
    request = ask("cafe\u0301", query="caf\u00e9")
    assert (await setup.ranker.rank("a", request)).results[0].logit == 1
    assert (await setup.ranker.rank("b", request)).results[0].logit == 0


async def test_a_query_of_control_characters_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="empty once control characters are removed"):
        await Setup().ranker.rank("a", ask("a", query="\x00 \x07"))


async def test_long_documents_are_reported_or_refused() -> None:
    ranker = Setup().ranker
    documents = ("short", "word " * 65)
    assert (await ranker.rank("a", ask(*documents))).truncated == (1,)
    with pytest.raises(DocumentTooLong, match=r"documents\[1\] exceeds the maximum length"):
        await ranker.rank("a", ask(*documents, truncate=False))


async def test_tokens_and_cached_tokens_are_added_up() -> None:
    ranker = Setup().ranker
    await ranker.rank("a", ask("a b", "c"))
    result = await ranker.rank("a", ask("a b", "c", "d e f", "c"))
    assert (result.tokens, result.cached_tokens) == (7, 4)


def _pair(first: WordOverlap, second: WordOverlap) -> tuple[RerankService, Telemetry]:
    telemetry = Telemetry()
    service = RerankService(
        catalog=Catalog(("first", "second"), "first", {}),
        replicas={"first": first, "second": second},
        store=MemoryStore(2**20, 60),
        admission=Admission(8, 8, 1),
        telemetry=telemetry,
        fallbacks={"first": "second"},
    )
    return service, telemetry


async def test_a_fallback_answers_for_a_failed_model_and_is_named_in_the_result() -> None:
    first, second = named("first"), named("second")
    service, telemetry = _pair(first, second)
    first.failures = [UpstreamUnavailable("gone")]
    result = await service.rerank(RerankRequest("a b", ("a", "a b"), model="first"))
    assert (result.model, result.requested_model) == ("second", "first")
    assert [r.index for r in result.results] == [1, 0]
    assert telemetry.snapshot().requests == {("handle", "second", 200): 1}
    assert telemetry.snapshot().model_events == {("first", "fallbacks"): 1}
    assert (first.rows, second.rows) == (0, 2)
    # The time spent on the failed model is a separate stage, not part of the lookup.
    assert result.timings_ms["fallback"] > 0
    assert result.timings_ms["total"] == pytest.approx(
        sum(ms for stage, ms in result.timings_ms.items() if stage != "total")
    )
    # The fallback's scores were not cached for the failed model, which is asked again.
    assert (await service.rerank(RerankRequest("a b", ("a", "a b")))).model == "first"


async def test_a_fallback_also_finds_relevant_spans() -> None:
    first, second = named("first"), named("second")
    service, _ = _pair(first, second)
    first.failures = [UpstreamUnavailable("gone")]
    asked = RerankRequest("cats", ("Dogs bark. The cats sleep.",), relevant_spans=SpanOptions(0.6))
    result = await service.rerank(asked)
    assert result.model == "second"
    assert [(s.start, s.end) for s in result.results[0].relevant_spans] == [(11, 26)]
    assert (first.rows, second.rows) == (0, 3)


async def test_invalid_requests_do_not_use_the_fallback() -> None:
    first, second = named("first", takes_instruction=True), named("second")
    service, _ = _pair(first, second)
    first.failures = [UpstreamRefused("too long")]
    with pytest.raises(UpstreamRefused):
        await service.rerank(RerankRequest("a", ("a",)))
    # The fallback takes no instruction, so the first model's failure is reported.
    first.failures = [UpstreamTimeout("slow")]
    options = ScoreOptions(instruction="find cats")
    with pytest.raises(UpstreamTimeout):
        await service.rerank(RerankRequest("a", ("a",), options=options))
