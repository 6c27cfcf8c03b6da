"""A real service with remote models, served on this machine, and a local one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_app.deployments.ports import free_port
from tests.e2e.conftest import Service, environment, kill, start
from tests.models.llm import fake_chat
from tests.models.remote import fake_provider as fake

KEY = "sk-a-key-that-nobody-may-see"
DOCUMENTS = ["0.25 bamboo", "0.75 pandas eat bamboo", "0.5 stocks"]


@pytest.fixture(scope="module")
def cohere() -> Iterator[fake.Provider]:
    with fake.serving(fake.cohere) as provider:
        yield provider


@pytest.fixture(scope="module")
def judge() -> Iterator[fake.Provider]:
    with fake.serving(lambda b: _judge(b)) as provider:
        yield provider


def _judge(body: Any) -> Any:
    one = len(fake_chat.passages(body)) == 1
    return fake_chat.rating(body) if one else fake_chat.ranking(body)


@pytest.fixture(scope="module")
def running(
    cohere: fake.Provider, judge: fake.Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    chat = {"provider": "local-chat", "model": "m", "base_url": judge.url}
    models = [
        {
            "name": "hosted",
            "provider": "cohere",
            "model": "rerank-v3.5",
            "api_key_env": "A_PROVIDERS_KEY",
            "base_url": cohere.url,
            "retries": 0,
            "fallback": "own",
        },
        {"name": "listwise", **chat, "judge": "listwise"},
        {"name": "pointwise", **chat, "aliases": ["judge"], "retries": 0},
        {"name": "own"},
    ]
    started = start(
        tmp_path_factory.mktemp("service") / "log",
        RERANKER_MODELS=json.dumps(models),
        A_PROVIDERS_KEY=KEY,
    )
    yield started
    kill(started)


def _ask(running: Service, path: str = "/v1/rerank", **body: Any) -> httpx.Response:
    sent = {"query": "what do pandas eat?", "documents": DOCUMENTS, **body}
    return httpx.post(f"{running.url}{path}", json=sent, timeout=60)


def test_a_hosted_model_works_with_cache_dialects_and_metrics(
    running: Service, cohere: fake.Provider
) -> None:
    answer = _ask(running, model="hosted", top_n=2).json()
    found = [(hit["index"], hit["relevance_score"]) for hit in answer["results"]]
    assert found == [(1, 0.75), (2, 0.5)]
    assert (answer["model"], answer["usage"]["total_tokens"]) == ("hosted", 34)
    assert cohere.received[0].headers["authorization"] == f"Bearer {KEY}"
    assert cohere.received[0].body["model"] == "rerank-v3.5"

    native = _ask(running, "/rerank", model="hosted").json()
    assert [hit["score"] for hit in native["results"]] == [0.75, 0.5, 0.25]
    assert len(cohere.received) == 1, "the scores were cached"
    _ask(running, model="hosted", documents=[*DOCUMENTS, "0.9 more"])
    assert cohere.received[1].body["documents"] == ["0.9 more"]

    deadline = time.monotonic() + 20
    while True:
        metrics = httpx.get(f"{running.url}/metrics", timeout=10).json()
        if metrics["upstream_by_model"].get("hosted", {}).get("calls") == 2:
            break
        assert time.monotonic() < deadline, metrics
        time.sleep(0.2)
    assert metrics["upstream_by_model"]["hosted"]["tokens"] == 68


def test_judges_rank_and_explain(running: Service, judge: fake.Provider) -> None:
    answer = _ask(running, model="listwise").json()
    assert [hit["index"] for hit in answer["results"]] == [1, 2, 0]
    calls = len(judge.received)
    assert _ask(running, model="listwise").json()["results"] == answer["results"]
    assert len(judge.received) == calls, "a listwise result is cached by request"
    assert _ask(running, model="listwise", documents=DOCUMENTS[:2]).status_code == 200
    assert len(judge.received) == calls + 1

    answer = _ask(running, model="judge", explain=True).json()
    assert answer["model"] == "pointwise"
    first = answer["results"][0]
    assert (first["index"], first["relevance_score"]) == (1, 0.8)
    assert first["explanation"] == "It has 0.75."
    assert _ask(running, model="hosted", explain=True).status_code == 422


def test_a_failing_provider_causes_an_error_or_a_fallback(
    running: Service, cohere: fake.Provider, judge: fake.Provider
) -> None:
    cohere.replies = [fake.as_json({"message": f"bad key {KEY}"}, 401)]
    answer = _ask(running, model="hosted", query="another question").json()
    assert answer["model"] == "own"
    assert len(answer["results"]) == 3
    judge.replies = [fake.as_json({"error": {"message": "slow down"}}, 429, retry_after="9")]
    refused = _ask(running, model="pointwise", documents=["0.1 new"])
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "9")
    assert "slow down" in refused.json()["message"]
    judge.replies = [fake.as_json({"error": "no"}, 401)]
    refused = _ask(running, model="pointwise", documents=["0.1 new"])
    assert (refused.status_code, refused.json()["code"]) == (502, "upstream_failed")


def test_the_key_is_not_exposed(running: Service) -> None:
    health = httpx.get(f"{running.url}/health", timeout=10)
    assert health.json()["models"]["hosted"]["source"] == "cohere:rerank-v3.5"
    for path in ("/health", "/metrics", "/v1/models"):
        assert KEY not in httpx.get(f"{running.url}{path}", timeout=10).text
    assert KEY not in running.log.read_text(errors="replace")
    assert "bad key ***" in running.log.read_text(errors="replace")


def test_a_start_without_the_key_fails_and_names_it(tmp_path: Path) -> None:
    models = [{"name": "hosted", "provider": "cohere", "model": "m", "api_key_env": "NOT_SET"}]
    done = subprocess.run(
        [sys.executable, "-m", "serve_app", "up"],
        env=environment(
            RERANKER_MODELS=json.dumps(models), PORT=str(free_port()), XDG_STATE_HOME=str(tmp_path)
        ),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "hosted: the environment variable NOT_SET is unset or empty" in done.stderr
