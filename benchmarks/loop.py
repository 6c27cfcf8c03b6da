"""How long the ingress blocks its event loop while requests of many sizes pass through it.

The service runs without Ray in this process, with a model that only counts words; `curl` in
another process sends the requests. Run: `make bench NAME=loop`.
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
from serve_app.http import make_app
from serve_app.settings import load

PORT = 8977
SIZES = (10, 100, 1_000, 10_000)
TICK_S = 0.001
CHUNK_S = 0.005


class CountsWords(InProcess):
    """Scores that cost nothing here, chunk after chunk, so that only the ingress' work is seen."""

    _turn = asyncio.Lock()

    async def info(self) -> ModelInfo:
        return replace(self._scorer.info, max_length=512)

    async def score(
        self, query: str, documents: list[Document], options: ScoreOptions, timeout_s: float
    ) -> list[Score]:
        async with self._turn:
            await asyncio.sleep(CHUNK_S)
        return [Score(len(document) / 1000, 1) for document in documents]


async def watch(worst: list[float]) -> None:
    """Keep in `worst[0]` the most that the loop worked without a look at timers, in ms.

    In the thread's processor time, so that other processes' load does not count.
    """
    while True:
        before = time.thread_time()
        await asyncio.sleep(TICK_S)
        worst[0] = max(worst[0], (time.thread_time() - before) * 1000)


async def send(body: Path) -> None:
    url = f"http://127.0.0.1:{PORT}/rerank"
    command = ("curl", "-sf", "-o", "/dev/null", "-d", f"@{body}")
    header = ("-H", "content-type: application/json")
    process = await asyncio.create_subprocess_exec(*command, *header, url)
    if await process.wait() != 0:
        raise RuntimeError("the service did not answer")


async def main() -> None:
    """Print the longest delay at each size."""
    settings = load({"max_documents": 10_000}, {})
    bare = Bare(settings, CountsWords(settings))
    app = make_app(lambda: bare)
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, access_log=False, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110, uvicorn has no event for it
        await asyncio.sleep(0.01)
    gc.freeze()  # as Ray Serve does in its replicas once they have loaded
    worst = [0.0]
    watching = asyncio.create_task(watch(worst))
    await asyncio.sleep(1)
    print(f"idle: {worst[0]:.1f} ms")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            delays = []
            for turn in range(5):
                documents = [f"document {turn} {i} " + "of some words " * 20 for i in range(size)]
                body = Path(folder) / "body.json"
                body.write_text(json.dumps({"query": "q", "documents": documents}))
                await asyncio.sleep(0.05)
                worst[0] = 0.0
                await send(body)
                delays.append(worst[0])
            kib = body.stat().st_size / 1024
            print(f"{size} documents, {kib:.0f} KiB: {sorted(delays)[2]:.1f} ms (median of 5)")
    watching.cancel()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
