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
from serve_app.client.reranker import ClientOptions

ROOT = Path(__file__).parent.parent.parent.parent
DOCUMENTS = ["stocks fell", "pandas eat bamboo", "bears eat"]


def test_every_method_returns_its_result(reranker: Reranker, tracker: TokenUsageTracker) -> None:
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


def test_threads_can_share_a_client(reranker: Reranker) -> None:
    def ask(i: int) -> float:
        return reranker.score(f"word{i}", f"word{i} word{i + 1}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(64))) == [1.0] * 64


async def test_it_works_inside_a_running_event_loop(reranker: Reranker, url: str) -> None:
    assert reranker.score("pandas", "pandas") == 1.0
    found = await reranker.arerank("pandas eat", DOCUMENTS, top_k=1)
    assert found.documents == [DOCUMENTS[1]]
    async with AsyncReranker(url, track_tokens=False) as client:
        assert await asyncio.gather(*[client.score("a", "a b") for _ in range(8)]) == [1.0] * 8


def test_it_reconnects_after_close_and_can_be_pickled(reranker: Reranker, url: str) -> None:
    reranker.close()
    assert reranker.score("pandas", "pandas") == 1.0
    with Reranker(url, model="words", batch_size=1) as other:
        copy: Reranker = pickle.loads(pickle.dumps(other))
    with copy:
        assert copy.model == "words"
        assert copy.rerank("a", ["a", "b"]).requests == 2


def test_both_clients_have_the_same_options() -> None:
    def named(function: Any) -> set[str]:
        parameters = inspect.signature(function).parameters.values()
        return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}

    assert named(AsyncReranker.__init__) - {"client"} == set(get_type_hints(ClientOptions))
    with pytest.raises(TypeError, match="nonsense"):
        Reranker(nonsense=1)  # type: ignore[call-arg]


def test_the_shared_tracker_is_used_by_default(url: str) -> None:
    before = shared_tracker().snapshot().tokens
    with Reranker(url) as client:
        client.score("a", "b")
        assert client.tracker is shared_tracker()
    assert shared_tracker().snapshot().tokens == before + 1


def test_one_that_is_dropped_without_close_ends_its_thread(url: str) -> None:
    before = set(threading.enumerate())
    client = Reranker(url)
    client.score("a", "a")
    (thread,) = set(threading.enumerate()) - before
    del client
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


FORK = """
import os, sys
from serve_app.client import Reranker
client = Reranker(sys.argv[1])
assert client.score("a", "a") == 1.0
if (child := os.fork()) == 0:
    os._exit(int(client.score("a b", "a b")))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), client.score("a", "a"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is not available")
def test_it_works_after_a_fork(url: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORK, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["2", "1.0"]


# Everything but pydantic that takes long to import, or that only the service needs.
NOT_IMPORTED = {
    *("httpx", "rich", "click", "pygments"),
    *("ray", "torch", "transformers", "numpy", "pandas", "starlette", "orjson"),
}
# The only module of the models that the client uses: it imports asyncio alone.
OF_THE_MODELS = {"models", "models.concurrency"}


def test_importing_the_client_imports_no_heavy_packages() -> None:
    code = (
        "import sys, serve_app.client; print(*{name.partition('.')[0] for name in sys.modules}); "
        "print(*{name for name in sys.modules if name.partition('.')[0] == 'models'}); "
        "serve_app.client.Reranker(); print('httpx' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    imported, of_the_models, after_use = done.stdout.splitlines()
    assert "pydantic" in imported.split()
    assert not NOT_IMPORTED & set(imported.split())
    assert set(of_the_models.split()) == OF_THE_MODELS
    assert after_use == "True False"
