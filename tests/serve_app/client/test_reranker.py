"""The blocking client, over a real connection."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from serve_app.client import AsyncReranker, Reranker, TokenUsageTracker, shared_tracker
from serve_app.client.core import CallOptions
from serve_app.client.reranker import ClientOptions
from serve_app.errors import InvalidRequest, UnknownModel

ROOT = Path(__file__).parent.parent.parent.parent
DOCUMENTS = ["stocks fell", "pandas eat bamboo", "bears eat"]


def test_rank_score_and_batch(reranker: Reranker, tracker: TokenUsageTracker) -> None:
    found = reranker.rerank("pandas eat", DOCUMENTS, top_k=2)
    assert [(hit.index, hit.score) for hit in found] == [(1, 2.0), (2, 1.0)]
    assert found.model == "words"
    assert found.elapsed_ms > 0
    assert reranker.score("pandas eat", DOCUMENTS[1]) == 2.0
    assert reranker.compute_scores("pandas eat", DOCUMENTS) == [0.0, 2.0, 1.0]
    scores, tokens = reranker.similarity("pandas eat", DOCUMENTS)
    assert (scores.tolist(), tokens) == ([0.0, 2.0, 1.0], 7)
    first, second = reranker.batch([("stocks", DOCUMENTS), ("bears", DOCUMENTS)], top_k=1)
    assert (first[0].index, second[0].index) == (0, 2)
    (row,) = tracker.snapshot().rows
    assert (row.model, row.requests, row.tokens) == ("words", 5, 3 + 7 * 5)


def test_the_services_errors_are_the_clients(reranker: Reranker) -> None:
    with pytest.raises(UnknownModel, match="none-such"):
        reranker.rerank("q", ["d"], model="none-such")
    with pytest.raises(InvalidRequest, match="query") as raised:
        reranker.rerank(" ", ["d"])
    assert (raised.value.param, raised.value.status) == ("query", 400)


def test_many_threads_share_one(reranker: Reranker) -> None:
    def ask(i: int) -> float:
        return reranker.score(f"word{i}", f"word{i} word{i + 1}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(64))) == [1.0] * 64


async def test_inside_a_running_loop(reranker: Reranker, url: str) -> None:
    assert reranker.score("pandas", "pandas") == 1.0
    found = await reranker.arerank("pandas eat", DOCUMENTS, top_k=1)
    assert found.documents == [DOCUMENTS[1]]
    async with AsyncReranker(url, track_tokens=False) as client:
        assert await asyncio.gather(*[client.score("a", "a b") for _ in range(8)]) == [1.0] * 8


def test_pickled_closed_and_opened_again(reranker: Reranker, url: str) -> None:
    reranker.close()
    assert reranker.score("pandas", "pandas") == 1.0
    with Reranker(url, model="words", batch_size=1) as other:
        copy: Reranker = pickle.loads(pickle.dumps(other))
    with copy:
        assert copy.model == "words"
        assert copy.rerank("a", ["a", "b"]).requests == 2


def test_both_clients_take_the_same() -> None:
    def named(function: Any) -> set[str]:
        parameters = inspect.signature(function).parameters.values()
        return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}

    assert named(AsyncReranker.rerank) == set(get_type_hints(CallOptions))
    assert named(AsyncReranker.__init__) - {"client"} == set(get_type_hints(ClientOptions))
    with pytest.raises(TypeError, match="nonsense"):
        Reranker(nonsense=1)  # type: ignore[call-arg]


def test_the_shared_tracker_is_used_by_default(url: str) -> None:
    before = shared_tracker().snapshot().tokens
    with Reranker(url) as client:
        client.score("a", "b")
        assert client.tracker is shared_tracker()
    assert shared_tracker().snapshot().tokens == before + 1


def test_a_bar(reranker: Reranker, capfd: pytest.CaptureFixture[str]) -> None:
    reranker.rerank("a", ["a"] * 10, batch_size=3, progress=True)
    assert "100%" in capfd.readouterr().err


FORK = """
import os, sys
from serve_app.client import Reranker
client = Reranker(sys.argv[1])
assert client.score("a", "a") == 1.0
if (child := os.fork()) == 0:
    os._exit(int(client.score("a b", "a b")))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), client.score("a", "a"))
"""


def test_one_that_is_dropped_without_close_ends_its_thread(url: str) -> None:
    before = set(threading.enumerate())
    client = Reranker(url)
    client.score("a", "a")
    (thread,) = set(threading.enumerate()) - before
    del client
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_after_a_fork(url: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["2", "1.0"]


def test_importing_it_brings_in_httpx_and_pydantic_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import serve_app.client; "
        "print(sorted({m.split('.')[0] for m in sys.modules} - {m.split('.')[0] for m in before}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    found = set(eval(done.stdout))
    assert {"httpx", "pydantic", "serve_app"} <= found, done.stderr
    heavy = {"ray", "torch", "transformers", "numpy", "pandas", "starlette", "orjson", "models"}
    assert not found & heavy
