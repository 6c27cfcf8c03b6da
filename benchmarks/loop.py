"""How long requests of different sizes block the ingress's event loop.

Runs the service without Ray in this process, with a model that only returns document lengths;
`curl` sends the requests from another process.
Run: `make bench NAME=loop`. Prints the longest block, when idle and for each request size.
"""

from __future__ import annotations

import asyncio
import gc
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import uvicorn

from benchmarks.bare import Bare, InProcess
from models.types import Document, ModelInfo, Score, ScoreOptions
from serve_app.api.app import make_app
from serve_app.settings import load

PORT = 8977
SIZES = (10, 100, 1_000, 10_000)
TICK_S = 0.001
CHUNK_S = 0.005


class LengthModel(InProcess):
    """A model without CPU cost, one chunk at a time, so that only the ingress's work is seen."""

    _busy = asyncio.Lock()

    async def info(self) -> ModelInfo:
        return replace(self._scorer.info, max_length=512)

    async def score(
        self,
        query: str,
        documents: list[Document],
        options: ScoreOptions,
        timeout_s: float,
        alone: bool = False,
    ) -> list[Score]:
        async with self._busy:
            await asyncio.sleep(CHUNK_S)
        return [Score(len(document) / 1000, 1) for document in documents]


async def watch(longest: list[float]) -> None:
    """Keep the longest time the loop was blocked, in ms, in `longest[0]`.

    Measured in the thread's CPU time, so that the load of other processes does not count.
    """
    while True:
        before = time.thread_time()
        await asyncio.sleep(TICK_S)
        longest[0] = max(longest[0], (time.thread_time() - before) * 1000)


async def send(body: Path) -> None:
    url = f"http://127.0.0.1:{PORT}/rerank"
    command = ("curl", "-sf", "-o", "/dev/null", "-d", f"@{body}")
    header = ("-H", "content-type: application/json")
    process = await asyncio.create_subprocess_exec(*command, *header, url)
    if await process.wait() != 0:
        raise RuntimeError("the request failed")


async def main() -> None:
    """Print the longest block for each request size."""
    settings = load({"max_documents": 10_000}, {})
    bare = Bare(settings, LengthModel(settings))
    app = make_app(lambda: bare)
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, access_log=False, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110, uvicorn has no event for it
        await asyncio.sleep(0.01)
    gc.freeze()  # as Ray Serve does in its replicas after loading
    longest = [0.0]
    watching = asyncio.create_task(watch(longest))
    await asyncio.sleep(1)
    print(f"idle: {longest[0]:.1f} ms")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            blocks = []
            for run in range(5):
                documents = [f"document {run} {i} " + "of some words " * 20 for i in range(size)]
                body = Path(folder) / "body.json"
                body.write_text(json.dumps({"query": "q", "documents": documents}))
                await asyncio.sleep(0.05)
                longest[0] = 0.0
                await send(body)
                blocks.append(longest[0])
            kib = body.stat().st_size / 1024
            print(f"{size} documents, {kib:.0f} KiB: {sorted(blocks)[2]:.1f} ms (median of 5)")
    watching.cancel()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
