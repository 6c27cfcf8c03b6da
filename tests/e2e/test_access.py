"""Keys and limits of a running service, with its proxy, key file and log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import Service, environment, kill, start

BODY = {"query": "what do pandas eat", "documents": ["Stock prices fell.", "Pandas eat bamboo."]}
RELOAD_S = 10.0


def new_key(*flags: str) -> tuple[str, str]:
    """A key and its line from `rerank key`."""
    made = subprocess.run(
        [sys.executable, "-m", "serve_app", "key", *flags],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return made.stderr.split()[-1], made.stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.txt"


@pytest.fixture(scope="module")
def guarded(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    keys.write_text("the-first-key name=first\n")
    running = start(
        tmp_path_factory.mktemp("guarded") / "log",
        RERANKER_API_KEYS_FILE=str(keys),
        RERANKER_CORS_ORIGINS="https://app.example",
    )
    yield running
    kill(running)


def post(service: Service, key: str, path: str = "/v1/rerank") -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{service.url}{path}", json=BODY, headers=headers, timeout=60)


def until(service: Service, key: str, status: int) -> httpx.Response:
    """Return the first response with the status; the key file is checked once a second."""
    deadline = time.monotonic() + RELOAD_S
    while (answer := post(service, key)).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)
    return answer


def wait_until_refused(service: Service, key: str) -> None:
    """Send requests until the service has read the file and refused it."""
    deadline = time.monotonic() + RELOAD_S
    while "keeping the current ones" not in service.log.read_text():
        assert time.monotonic() < deadline
        post(service, key)
        time.sleep(0.1)


def test_a_key_is_required(guarded: Service) -> None:
    refused = httpx.post(f"{guarded.url}/v1/rerank", json=BODY)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.json()["id"] == refused.headers["x-request-id"]
    assert post(guarded, "wrong", "/rerank").json()["error"]["code"] == "unauthorized"
    huge = httpx.post(f"{guarded.url}/rerank", content=b"x" * 20_000_000)
    assert huge.status_code == 401
    assert post(guarded, "the-first-key").json()["results"][0]["index"] == 1
    assert httpx.get(f"{guarded.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{guarded.url}/metrics").status_code == 401


def test_rejections_keep_the_request_id(guarded: Service) -> None:
    headers = {"x-request-id": "mine-7"}
    refused = httpx.post(f"{guarded.url}/v1/rerank", json=BODY, headers=headers)
    assert refused.headers.get_list("x-request-id") == ["mine-7"]
    assert refused.json()["id"] == "mine-7"


def test_cors_for_a_page_of_another_origin(guarded: Service) -> None:
    asked = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    preflight = httpx.options(f"{guarded.url}/v1/rerank", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"


def test_keys_can_be_changed_without_a_restart_and_have_limits(
    guarded: Service, keys: Path
) -> None:
    key, line = new_key("--name", "second", "--rpm", "2")
    operator, operators = new_key("--operator")
    keys.write_text(line + operators)
    answer = until(guarded, key, 200)
    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    assert post(guarded, key).status_code == 200
    limited = post(guarded, key)
    assert limited.status_code == 429
    assert 1 <= int(limited.headers["retry-after"]) <= 30
    assert limited.json()["code"] == "rate_limited"
    assert limited.json()["id"] == limited.headers["x-request-id"]
    until(guarded, "the-first-key", 401)
    for sent, status in ((key, 403), (operator, 200)):
        metrics = httpx.get(f"{guarded.url}/metrics", headers={"x-api-key": sent})
        assert metrics.status_code == status
    keys.write_text("not a key")
    wait_until_refused(guarded, key)
    assert post(guarded, key).status_code == 429, "the old keys stay valid"
    usage = httpx.get(f"{guarded.url}/v1/usage", headers={"x-api-key": key}).json()
    assert (usage["key"], usage["documents"]) == ("second", 4)
    assert usage["cached_tokens"] > 0
    assert key not in guarded.log.read_text()


def test_an_invalid_key_file_prevents_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serve_app", "up"],
        env=environment(RERANKER_API_KEYS_FILE=str(tmp_path / "nowhere")),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "RERANKER_API_KEYS_FILE" in done.stderr
    assert "Traceback" not in done.stderr
