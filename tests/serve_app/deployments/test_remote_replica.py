"""Remote models in the service: settings, failures, fallbacks, explanations."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.remote.errors import (
    RemoteAnswerError,
    RemoteNotFound,
    RemoteRateLimited,
    RemoteRefused,
    RemoteTimeout,
    RemoteUnauthorized,
    RemoteUnavailable,
)
from models.types import Score, ScoreOptions
from serve_app.cli.main import main
from serve_app.deployments.remote_replica import to_client
from serve_app.errors import (
    InvalidRequest,
    RerankError,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore
from serve_app.service.catalog import Catalog
from serve_app.service.rerank import RerankService
from serve_app.settings import SettingsError, load
from serve_app.settings.models import LocalModel, RemoteModel
from serve_app.telemetry import Snapshot, Telemetry, merge, to_json, to_prometheus
from serve_app.types import RerankRequest, SpanOptions
from tests.serve_app.fakes import INFO, FakeFrontend, WordOverlap, make_service

COHERE = {"name": "cohere", "provider": "cohere", "model": "rerank-v3.5"}


def test_an_entry_with_a_provider_becomes_a_remote_spec() -> None:
    entry = {**COHERE, "api_key_env": "MY_KEY", "fallback": "own", "parameters": {"a": 1}}
    settings = load({"models": [entry, {"name": "own"}]}, {})
    hosted, own = settings.models.served()
    spec = hosted.spec()
    assert (type(hosted), type(own), hosted.fallback) == (RemoteModel, LocalModel, "own")
    assert (spec.provider, spec.model, spec.api_key_env) == ("cohere", "rerank-v3.5", "MY_KEY")
    assert (spec.timeout_s, spec.parameters) == (30, {"a": 1})
    judge = load({"models": [{"name": "j", "provider": "lmstudio", "model": "m"}]}, {})
    assert judge.models.served()[0].spec().timeout_s == 100


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"name": "a", "provider": "nobody", "model": "m"}, "provider must be one of cohere, jina"),
        ({"name": "a", "provider": "cohere"}, "needs `model`"),
        ({"name": "a", "provider": "vllm", "model": "m"}, "needs `base_url`"),
        ({**COHERE, "device": "cpu"}, "device belongs to a local model"),
        ({"name": "a", "window": 5}, "window belongs to a model with a `provider`"),
        ({**COHERE, "api_key": "sk-secret"}, "api_key is not a setting"),
        ({**COHERE, "base_url": "https://me:sk-secret@host"}, "user name"),
        ({**COHERE, "base_url": "ftp://sk-secret"}, "http or https"),
        ({**COHERE, "parameters": "sk-secret"}, "valid dictionary"),
        ({**COHERE, "fallback": "gone"}, "'gone' of 'cohere' is not one of them"),
        ({**COHERE, "fallback": "cohere"}, "lead back to 'cohere'"),
        ({**COHERE, "step": 30}, "step must not be larger"),
        ({**COHERE, "step": 30, "parameters": {"auth": "sk-secret"}}, "step must not be larger"),
    ],
)
def test_errors_name_the_wrong_entry_and_show_no_secrets(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load({"models": [entry]}, {})
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind", "status", "retry_after_s"),
    [
        (RemoteRefused("no"), UpstreamRefused, 422, None),
        (RemoteRateLimited("no", retry_after_s=6.2), UpstreamRateLimited, 429, 7),
        (RemoteUnauthorized("no"), UpstreamFailed, 502, None),
        (RemoteNotFound("no"), UpstreamFailed, 502, None),
        (RemoteAnswerError("no"), UpstreamFailed, 502, None),
        (RemoteUnavailable("no"), UpstreamUnavailable, 503, 5),
        (RemoteUnavailable("no", retry_after_s=0.1), UpstreamUnavailable, 503, 1),
        (RemoteTimeout("no"), UpstreamTimeout, 504, None),
    ],
)
def test_a_providers_failure_becomes_an_error_for_the_client(
    error: Any, kind: type[RerankError], status: int, retry_after_s: int | None
) -> None:
    for answer in (to_client(error), pickle.loads(pickle.dumps(to_client(error)))):
        assert type(answer) is kind
        assert (answer.status, answer.retry_after_s, answer.message) == (
            status,
            retry_after_s,
            "no",
        )


def test_the_score_command_rejects_a_remote_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RERANKER_MODELS", json.dumps([COHERE]))
    (tmp_path / "docs.txt").write_text("a document")
    assert main(["score", "a query", str(tmp_path / "docs.txt")]) == 1
    assert "cohere is a remote model" in capsys.readouterr().err


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


def _named(name: str, **more: Any) -> WordOverlap:
    backend = WordOverlap()
    backend.info_ = replace(INFO, name=name, **more)
    return backend


async def test_a_fallback_answers_for_a_failed_model_and_is_named_in_the_result() -> None:
    first, second = _named("first"), _named("second")
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
    first, second = _named("first"), _named("second")
    service, _ = _pair(first, second)
    first.failures = [UpstreamUnavailable("gone")]
    asked = RerankRequest("cats", ("Dogs bark. The cats sleep.",), relevant_spans=SpanOptions(0.6))
    result = await service.rerank(asked)
    assert result.model == "second"
    assert [(s.start, s.end) for s in result.results[0].relevant_spans] == [(11, 26)]
    assert (first.rows, second.rows) == (0, 3)


async def test_explanations_are_requested_for_documents_but_not_for_spans() -> None:
    backend = _named("words", explains=True)
    options = ScoreOptions(explain=True)
    asked = RerankRequest("a", ("a b. C d.",), options=options, relevant_spans=SpanOptions())
    await make_service(backend).rerank(asked)
    assert [o.explain for o in backend.options] == [True, False]


async def test_invalid_requests_do_not_use_the_fallback() -> None:
    first, second = _named("first", takes_instruction=True), _named("second")
    service, _ = _pair(first, second)
    first.failures = [UpstreamRefused("too long")]
    with pytest.raises(UpstreamRefused):
        await service.rerank(RerankRequest("a", ("a",)))
    # The fallback takes no instruction, so the first model's failure is reported.
    first.failures = [UpstreamTimeout("slow")]
    options = ScoreOptions(instruction="find cats")
    with pytest.raises(UpstreamTimeout):
        await service.rerank(RerankRequest("a", ("a",), options=options))


async def test_a_model_that_splits_requests_itself_gets_them_whole() -> None:
    backend = _named("words", whole_requests=True)
    await make_service(backend).rerank(RerankRequest("a", tuple(f"a {i}" for i in range(500))))
    assert (backend.rows, len(backend.options)) == (500, 1)


async def test_an_image_query_is_accepted_only_by_models_that_take_one() -> None:
    backend = _named("words")
    service = make_service(backend)
    asked = RerankRequest("", ("a",), options=ScoreOptions(query_image="https://x.org/a.png"))
    with pytest.raises(InvalidRequest, match="does not support an image as the query"):
        await service.rerank(asked)
    backend.info_ = replace(backend.info_, takes_query_image=True)
    await service.rerank(asked)
    await service.rerank(asked)
    other = replace(asked, options=ScoreOptions(query_image="https://x.org/b.png"))
    await service.rerank(other)
    assert backend.rows == 2


class Explains(WordOverlap):
    async def score(
        self, query: str, documents: list[Any], options: Any = None, timeout_s: float = 9.0
    ) -> list[Score]:
        scores = await super().score(query, documents, options, timeout_s)
        why = "It shares words." if options.explain else ""
        return [replace(score, explanation=why) for score in scores]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
async def test_explanations_are_returned_on_request_and_not_cached(path: str) -> None:
    backend = Explains()
    body = {"query": "a b", "documents": ["a", "c"], "explain": True}
    front = FakeFrontend(backend)
    async with front.client() as client:
        refused = await client.post(path, json=body)
        assert refused.status_code == 422
        assert "does not support explanations" in refused.text
        backend.info_ = replace(INFO, explains=True)
        for rows in (2, 4):
            answer = (await client.post(path, json=body)).json()
            assert [r["explanation"] for r in answer["results"]] == ["It shares words."] * 2
            assert backend.rows == rows
        plain = (await client.post(path, json={**body, "explain": False})).json()
        assert "explanation" not in plain["results"][0]
        assert backend.rows == 6


def test_model_events_add_up_across_processes() -> None:
    one, other = Snapshot(), Snapshot()
    one.model_events["cohere", "calls"] = 2
    other.model_events["cohere", "calls"] = 3
    other.model_events["cohere", "retries"] = 1
    total = merge([one, other])
    assert to_json(total)["upstream_by_model"] == {"cohere": {"calls": 5, "retries": 1}}
    text = to_prometheus(total).decode()
    assert 'rerank_upstream_total{model="cohere",event="calls"} 5' in text
