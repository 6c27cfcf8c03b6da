"""A scoring request over HTTP: compressed bodies, long documents, sorting, explanations."""

from __future__ import annotations

import gc
import gzip
import json
import threading
import weakref
from dataclasses import replace
from typing import Any

import pytest
import zstandard

from models.types import Score
from serve_app.api import rerank
from serve_app.api.dialects import ROUTES, ManyDialect, read_json
from tests.serve_app.api.fakes import QUERY, TEXTS, Front
from tests.serve_app.fakes import INFO, FakeFrontend, WordOverlap


async def test_unsorted_results_are_the_best_documents_in_document_order(app: Front) -> None:
    body = {"query": QUERY, "documents": ["fox", "hen", "red fox"], "sort": False, "top_k": 2}
    hits = (await app.client.post("/rerank", json=body)).json()["results"]
    assert [hit["index"] for hit in hits] == [0, 2]


@pytest.mark.parametrize(
    ("path", "body", "status", "key"),
    [
        ("/rerank", {"texts": TEXTS, "truncate": False}, 413, "error_type"),
        ("/voyage/v1/rerank", {"documents": TEXTS, "truncation": False}, 400, "detail"),
        ("/v1/rerank", {"documents": TEXTS, "truncation": False}, 422, "detail"),
        ("/rerank", {"documents": TEXTS, "truncate": False}, 422, "error"),
        ("/v1/ranking", {"passages": TEXTS, "truncate": "NONE"}, 400, "detail"),
    ],
)
async def test_a_document_that_is_too_long_is_rejected_without_truncation(
    app: Front, path: str, body: dict[str, Any], status: int, key: str
) -> None:
    ok = await app.client.post(path, json={"query": QUERY, **body})
    assert ok.status_code == 200

    async def too_long(query: str, documents: list[Any], *more: Any) -> list[Score]:
        return [Score(0.0, 64, True) for _ in documents]

    app.backend.score = too_long  # type: ignore[method-assign]
    answer = await app.client.post(path, json={"query": "other", **body})
    assert answer.status_code == status, answer.text
    assert key in answer.json()


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_compressed_request_gets_a_compressed_response(app: Front, encoding: str) -> None:
    content = json.dumps({"query": QUERY, "documents": [f"text {i}" for i in range(300)]}).encode()
    compressed = (
        gzip.compress(content)
        if encoding == "gzip"
        else zstandard.ZstdCompressor().compress(content)
    )
    kind = {"content-type": "application/json", "content-encoding": encoding}
    answer = await app.client.post(
        "/v1/rerank", content=compressed, headers={**kind, "accept-encoding": encoding}
    )
    assert answer.status_code == 200
    assert answer.headers["content-encoding"] == encoding
    assert answer.headers["vary"] == "Accept-Encoding"
    assert len(answer.json()["results"]) == 300
    plain = await app.client.post("/v1/rerank", json=json.loads(content), headers={
        "accept-encoding": "identity"
    })  # fmt: skip
    assert "content-encoding" not in plain.headers
    assert plain.json()["results"] == answer.json()["results"]


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (gzip.compress(bytes(10_000_000)), "gzip", 413),
        (zstandard.ZstdCompressor().compress(bytes(10_000_000)), "zstd", 413),
        (b"{}", "br", 415),
        (b"{}", "gzip", 400),
        (gzip.compress(b""), "gzip", 400),
    ],
    ids=["gzip bomb", "zstd bomb", "unknown", "not gzip", "nothing"],
)
async def test_invalid_compressed_bodies_are_rejected(
    app: Front, content: bytes, encoding: str, status: int
) -> None:
    kind = {"content-type": "application/json", "content-encoding": encoding}
    answer = await app.client.post("/v2/rerank", content=content, headers=kind)
    assert answer.status_code == status
    assert answer.json()["message"]
    assert ("accept-encoding" in answer.headers) == (status == 415)


class Explains(WordOverlap):
    async def score(
        self,
        query: str,
        documents: list[Any],
        options: Any = None,
        timeout_s: float = 9.0,
        alone: bool = False,
    ) -> list[Score]:
        scores = await super().score(query, documents, options, timeout_s, alone)
        why = "It shares words." if options.explain else ""
        return [replace(score, explanation=why) for score in scores]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
async def test_explanations_are_returned_on_request_and_not_cached(path: str) -> None:
    backend = Explains()
    body = {"query": "a b", "documents": ["a", "c"], "explain": True}
    front = FakeFrontend(backend)
    async with front.client() as client:
        refused = await client.post(path, json=body)
        assert refused.status_code == 422
        assert "does not support explanations" in refused.text
        backend.info_ = replace(INFO, explains=True)
        for rows in (2, 4):
            answer = (await client.post(path, json=body)).json()
            assert [r["explanation"] for r in answer["results"]] == ["It shares words."] * 2
            assert backend.rows == rows
        plain = (await client.post(path, json={**body, "explain": False})).json()
        assert "explanation" not in plain["results"][0]
        assert backend.rows == 6


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rerank", {"query": "q", "documents": ["word " * 110_000]}),
        ("/v1/rerank", {"query": "q", "documents": [{"text": "a", "more": [[]] * 30_000}] * 10}),
        ("/rerank", {"query": "q", "texts": ["a" * 60] * 9_000}),
        ("/rerank/batch", {"queries": ["q"] * 1000, "documents": ["a"]}),
        ("/score", {"text_1": "q", "text_2": ["a"] * 1000}),
    ],
)
async def test_large_bodies_are_parsed_and_rendered_off_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    loop = threading.get_ident()
    on_loop: dict[str, bool] = {}

    def note(owner: Any, name: str) -> None:
        method = getattr(owner, name)

        def noted(*args: Any, **options: Any) -> Any:
            on_loop[name] = threading.get_ident() == loop
            return method(*args, **options)

        monkeypatch.setattr(owner, name, noted)

    dialect = type(ROUTES[path].choose(body))
    many = issubclass(dialect, ManyDialect)
    for name in ("parse_all", "render_all") if many else ("parse", "render"):
        note(dialect, name)
    note(rerank, "read_json")
    async with FakeFrontend().client() as client:
        assert (await client.post(path, json=body)).status_code == 200
    assert list(on_loop.values()) == [False] * 3


async def test_the_garbage_collector_is_paused_only_while_a_large_body_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []

    def noting(*args: Any) -> Any:
        seen.append(gc.isenabled())
        return read_json(*args)

    monkeypatch.setattr(rerank, "read_json", noting)
    large = b'{"query":"q","documents":["%s"],"more":%s}' % (b"a" * rerank.THREAD_BYTES, b"%s")
    async with FakeFrontend().client() as client:
        for content in (large % b"0", large % b"wrong", b'{"query":"q","documents":["a"]}'):
            await client.post("/rerank", content=content)
            assert gc.isenabled()
    assert seen == [False, False, True]


class Body(dict[str, Any]):
    """A parsed body that can be weakly referenced."""


@pytest.mark.parametrize("chars", [1, rerank.THREAD_BYTES])
async def test_the_parsed_body_is_dropped_before_the_documents_are_scored(
    monkeypatch: pytest.MonkeyPatch, chars: int
) -> None:
    bodies: list[weakref.ref[Body]] = []
    alive: list[bool] = []

    def noting(*args: Any) -> Body:
        body = Body(read_json(*args))
        bodies.append(weakref.ref(body))
        return body

    class Backend(WordOverlap):
        async def score(self, *args: Any, **options: Any) -> list[Score]:
            alive.append(bodies[0]() is not None)
            return await super().score(*args, **options)

    monkeypatch.setattr(rerank, "read_json", noting)
    async with FakeFrontend(Backend()).client() as client:
        body = {"query": "q", "documents": ["a" * chars], "more": [[]]}
        assert (await client.post("/rerank", json=body)).status_code == 200
    assert alive == [False]


async def test_parsing_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        started.set()
        release.wait(30)
        return {}

    monkeypatch.setattr(rerank, "read_json", slow)
    body = {"query": "q", "documents": ["a" * rerank.THREAD_BYTES]}
    front = FakeFrontend()
    try:
        async with front.client(**{"x-request-timeout-ms": "200"}) as client:
            answer = await client.post("/rerank", json=body)
        assert started.is_set()
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
    finally:
        release.set()
