"""Many mixed requests to one service, whose memory must not grow.

`RERANK_SOAK_REQUESTS=200000 python -m pytest tests/e2e/test_soak.py -s` takes a quarter of an hour
and shows what each process grew by.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.servers import processes, running, waiting

REQUESTS = int(os.environ.get("RERANK_SOAK_REQUESTS", "20000"))
CLIENTS = 8
# The score store fills up first; memory is measured in the rest of the run.
SETTLED, HALFWAY = 0.4, 0.7
# Maximum growth of one process until the end. Allocators vary by a few MiB.
GROWTH_BYTES = (8 + 16 * min(1, REQUESTS / 200_000)) * 2**20
WORDS = ["pandas", "eat", "bamboo", "stocks", "fell", "bears", "sleep", "winter", "rain", "tea"]


def _texts(chance: random.Random, number: int) -> list[str]:
    return [" ".join(chance.choices(WORDS, k=12)) + f" {chance.random()}" for _ in range(number)]


def _bodies(chance: random.Random) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Yield paths, bodies and expected statuses of every kind."""
    known = ["Pandas strip bamboo.", "Stock prices fell.", "Bears sleep in winter."]
    query = " ".join(chance.choices(WORDS, k=4))
    fresh = _texts(chance, chance.choice((1, 3, 20)))
    yield "/v1/rerank", {"query": query, "documents": fresh}, 200
    yield "/v2/rerank", {"query": "how do pandas eat?", "documents": known, "model": "x"}, 404
    yield "/v1/rerank", {"query": "how do pandas eat?", "documents": known}, 200
    yield "/rerank", {"query": query, "texts": fresh}, 200
    yield "/rerank", {"query": query, "documents": fresh, "return_documents": True}, 200
    yield "/rerank/batch", {"queries": [query, "bears"], "documents": known}, 200
    yield "/voyage/v1/rerank", {"query": query, "documents": known, "top_k": 1}, 200
    yield "/score", {"text_1": query, "text_2": fresh}, 200
    passages = [{"text": text} for text in fresh]
    yield "/v1/ranking", {"query": {"text": query}, "passages": passages}, 200
    yield "/v1/rerank", {"query": query}, 400
    yield "/v1/rerank", {"query": 7, "documents": known}, 422
    yield "/v1/rerank", {"query": query, "documents": _texts(chance, 200)}, 200


def _ask(client: httpx.Client, chance: random.Random, path: str, body: Any, wanted: int) -> str:
    if chance.random() < 0.02:
        try:  # a client that disconnects
            client.post(path, json={**body, "query": f"gone {chance.random()}"}, timeout=0.004)
        except httpx.TimeoutException:
            return "gone"
        return "answered in time"
    headers = {"x-request-timeout-ms": "2"} if chance.random() < 0.02 else {}
    status = client.post(path, json=body, headers=headers).status_code
    # Cached requests finish in time.
    fine = {wanted, 424, 504} if headers else {wanted}
    return str(status) if status in fine else f"wrong: {path} {status}"


def _memory(session: int) -> dict[int, tuple[str, int]]:
    """Name and private memory in bytes (without library files) of the session's processes."""
    found = {}
    for pid, _ in processes(session):
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        for line in rollup.splitlines():
            if line.startswith("Pss_Anon:"):
                found[pid] = (name[-60:], int(line.split()[1]) * 1024)
    return found


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_memory_stays_flat() -> None:
    env = {
        "WAITING_SECONDS_PER_TOKEN": "0.0000001",
        "CACHE_MAX_BYTES": str(4 * 2**20),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    seen: Counter[str] = Counter()
    lock, done = threading.Lock(), 0
    with running(waiting, env) as server:

        def work(number: int) -> None:
            nonlocal done
            chance = random.Random(number)
            with httpx.Client(base_url=server.url, timeout=120, trust_env=False) as client:
                while True:
                    for path, body, wanted in _bodies(chance):
                        outcome = _ask(client, chance, path, body, wanted)
                        with lock:
                            seen[outcome] += 1
                            done += 1
                            if done >= REQUESTS:
                                return

        started = time.monotonic()
        with ThreadPoolExecutor(CLIENTS) as pool:
            tasks = [pool.submit(work, i) for i in range(CLIENTS)]
            seen_at = {}
            for part in (SETTLED, HALFWAY):
                while done < part * REQUESTS and not any(t.done() for t in tasks):
                    time.sleep(0.5)
                seen_at[part] = _memory(server.session)
            for task in tasks:
                task.result()
        took = time.monotonic() - started
        time.sleep(3)
        after = _memory(server.session)
    print(f"{done} requests in {took:.0f} s: {dict(seen)}")
    before = seen_at[SETTLED]
    growth = {pid: after[pid][1] - size for pid, (_, size) in before.items() if pid in after}
    for pid, more in sorted(growth.items(), key=lambda item: -item[1]):
        name, size = before[pid]
        first = seen_at[HALFWAY][pid][1] - size
        print(f"{name}: {size / 2**20:.0f} MiB, {first / 2**20:+.1f}, {more / 2**20:+.1f}")
    assert not [outcome for outcome in seen if outcome.startswith("wrong")], seen
    assert set(before) <= set(after), "a process has exited"
    assert max(growth.values()) < GROWTH_BYTES
