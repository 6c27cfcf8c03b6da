"""The service and an application that calls it; a test runs this in a separate process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx
import ray
from ray import serve

from serve_app.app import APP_NAME, build
from serve_app.client import AsyncReranker, Reranker
from serve_app.errors import InvalidRequest, UnknownModel

QUERY, DOCUMENTS = "how do pandas eat?", ["Stock prices fell.", "Pandas eat bamboo.", "Hi."]


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Caller:
    async def ask(self) -> dict[str, object]:
        handle = serve.get_app_handle(APP_NAME)
        result = await handle.rerank.remote(QUERY, DOCUMENTS, top_n=2)
        async with AsyncReranker(handle) as client:
            by_client = await client.rerank(QUERY, DOCUMENTS, top_k=2, batch_size=2)
        spans = await handle.rerank.remote(
            QUERY, DOCUMENTS, relevant_spans={"mode": "enabled"}, priority=3, sort=False
        )
        problems = []
        for query, model, expected in (("", None, InvalidRequest), ("q", "none", UnknownModel)):
            try:
                await handle.rerank.remote(query, DOCUMENTS, model=model)
            except expected as error:
                problems.append(str(error))
            async with AsyncReranker(handle) as client:
                try:
                    await client.rerank(query, DOCUMENTS, model=model)
                except expected as error:
                    problems.append(type(error).__name__)
        return {
            "model": result.model,
            "results": [[hit.index, hit.relevance_score] for hit in result.results],
            "client": [[hit.index, hit.score] for hit in by_client],
            "problems": problems,
            "order": [hit.index for hit in spans.results],
            "spans": [
                [DOCUMENTS[hit.index][span.start : span.end] for span in hit.relevant_spans]
                for hit in spans.results
            ],
        }


def main(port: int, answer: Path) -> None:
    ray.init(address="local", include_dashboard=False, object_store_memory=200 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    models = [{"name": "one", "quantization": "fp32"}, {"name": "two", "aliases": ["rerank-2"]}]
    serve.run(build({"models": models, "default_model": "one"}), name=APP_NAME, route_prefix="/")
    caller = serve.run(Caller.bind(), name="caller", route_prefix="/caller")
    by_handle = asyncio.run(_ask(caller))
    with Reranker(serve.get_app_handle(APP_NAME)) as client:
        blocking = client.compute_scores(QUERY, DOCUMENTS)
    body = {"query": QUERY, "documents": DOCUMENTS, "top_n": 2}
    url = f"http://127.0.0.1:{port}/v1/rerank"
    by_http = httpx.post(url, json=body, timeout=60).json()
    other = httpx.post(url, json={**body, "model": "rerank-2"}, timeout=60).json()
    answer.write_text(
        json.dumps({"handle": by_handle, "http": by_http, "other": other, "scores": blocking})
    )
    serve.shutdown()
    ray.shutdown()


async def _ask(caller: serve.handle.DeploymentHandle) -> object:
    return await caller.ask.remote()


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(int(sys.argv[1]), Path(sys.argv[2]))
