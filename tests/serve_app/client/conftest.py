"""The service's routes on a real port, with a model that counts shared words."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from serve_app.api.app import make_app
from serve_app.client import Reranker, TokenUsageTracker
from tests.serve_app.fakes import FakeFrontend

START_TIMEOUT_S = 10.0


@pytest.fixture(scope="session")
def front() -> FakeFrontend:
    return FakeFrontend()


@pytest.fixture(scope="session")
def url(front: FakeFrontend) -> Iterator[str]:
    config = uvicorn.Config(make_app(lambda: front), port=0, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def tracker() -> TokenUsageTracker:
    return TokenUsageTracker()


@pytest.fixture
def reranker(url: str, tracker: TokenUsageTracker) -> Iterator[Reranker]:
    with Reranker(url, tracker=tracker) as client:
        yield client
