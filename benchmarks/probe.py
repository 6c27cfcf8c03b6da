"""A small request, sent again and again while something else happens to the service.

A process of its own, so that the sender of the large requests doesn't delay it. Prints `ready`
once both kinds of requests have been answered, sends until its standard input is closed, and
prints what it saw as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from benchmarks.raw_http import Request, outcome
from benchmarks.servers import ROOT

PAUSE_S = 0.02
TIMEOUT_S = 30.0
OK = "200"
QUERY = "how do pandas eat?"
DOCUMENTS = ["Pandas eat bamboo.", "Stock prices fell.", "Bears sleep in winter."]


@dataclass
class Waits:
    """The longest wait in seconds, the number of requests, and the failed ones by status."""

    longest_s: float = 0.0
    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)


@dataclass
class Seen:
    """`cached`: the same request each time. `scored`: one with a new document."""

    cached: Waits = field(default_factory=Waits)
    scored: Waits = field(default_factory=Waits)

    @property
    def failed(self) -> Counter[str]:
        return self.cached.failed + self.scored.failed

    @property
    def requests(self) -> int:
        return self.cached.requests + self.scored.requests

    @staticmethod
    def of(found: dict[str, Any]) -> Seen:
        kinds = ("cached", "scored")
        waits = {k: Waits(**{**found[k], "failed": Counter(found[k]["failed"])}) for k in kinds}
        return Seen(**waits)


@asynccontextmanager
async def probing(url: str) -> AsyncIterator[Seen]:
    """Send small requests while the block runs; the yielded figures are complete after it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.probe",
        url,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen = Seen()
    try:
        await process.stdout.readline()
        yield seen
    finally:
        process.stdin.close()
        found = Seen.of(orjson.loads(await process.stdout.read()))
        await process.wait()
        seen.cached, seen.scored = found.cached, found.scored


def cached(number: int) -> Request:
    return Request.json("/v1/rerank", {"query": QUERY, "documents": DOCUMENTS})


def scored(number: int) -> Request:
    documents = [f"{DOCUMENTS[0]} {number}", *DOCUMENTS[1:]]
    return Request.json("/v1/rerank", {"query": QUERY, "documents": documents})


async def _send_on(url: str, kind: str, waits: Waits, over: asyncio.Event) -> None:
    make = scored if kind == "scored" else cached
    for number in itertools.count(time.time_ns()):
        started = time.perf_counter()
        status = await outcome(url, make(number), TIMEOUT_S)
        waits.longest_s = max(waits.longest_s, time.perf_counter() - started)
        waits.requests += 1
        if status != OK:
            waits.failed[status] += 1
        if over.is_set():
            return
        await asyncio.sleep(PAUSE_S)


async def main(url: str) -> None:
    seen, over = Seen(), asyncio.Event()
    await asyncio.gather(*(outcome(url, make(0), TIMEOUT_S) for make in (cached, scored)))
    print("ready", flush=True)
    async with asyncio.TaskGroup() as group:
        for kind, waits in (("cached", seen.cached), ("scored", seen.scored)):
            group.create_task(_send_on(url, kind, waits, over))
        await asyncio.to_thread(sys.stdin.read)
        over.set()
    print(orjson.dumps(seen).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
