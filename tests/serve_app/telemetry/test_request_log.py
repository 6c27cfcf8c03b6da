"""The log line of a request: what it contains, and what it never contains."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from models.types import ModelInfo
from serve_app.access.keyring import KeyRing
from serve_app.errors import UnknownModel
from serve_app.telemetry import request_log
from tests.serve_app.fakes import FakeFrontend, WordOverlap

SECRET = "a b c of nobody else"
ASK = {"query": SECRET, "documents": [SECRET, "d", "d"]}


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, before = Lines(), request_log.logger.level
    request_log.logger.addHandler(handler)
    request_log.logger.setLevel(logging.DEBUG)
    yield handler
    request_log.logger.removeHandler(handler)
    request_log.logger.setLevel(before)


async def test_each_request_gets_one_line_with_its_counts_and_timings(lines: Lines) -> None:
    async with FakeFrontend().client() as client:
        await client.post("/v1/rerank", json=ASK)
        await client.post("/v1/rerank", json=ASK)
    first, second = lines.records
    assert (first.method, first.path, first.status) == ("POST", "/v1/rerank", 200)
    assert (first.dialect, first.model, first.documents) == ("v1", "words", 3)
    assert (first.tokens, first.cached_tokens, first.key) == (8, 0, "anonymous")
    assert second.cached_tokens == second.tokens == 8
    assert {"lookup_ms", "queue_ms", "score_ms", "rank_ms", "total_ms"} <= set(vars(first))
    assert first.getMessage().startswith("POST /v1/rerank 200 ")
    assert "model=words documents=3" in first.getMessage()
    for record in lines.records:
        assert SECRET not in record.getMessage()
        assert SECRET not in str(vars(record))


async def test_a_batch_of_queries_gets_one_line(lines: Lines) -> None:
    async with FakeFrontend().client() as client:
        answer = await client.post("/rerank/batch", json={**ASK, "queries": [SECRET, "a"]})
    (line,) = lines.records
    assert (answer.status_code, line.status, line.documents, line.tokens) == (200, 200, 6, 16)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "found"),
    [
        ("POST", "/v1/rerank", {"query": "x"}, 422, {"dialect": "v1"}),
        ("POST", "/v1/rerank", {**ASK, "model": SECRET}, 404, {"model": "unknown"}),
        ("GET", "/nothing%0AINFO here", None, 404, {"path": "/nothing%0AINFO%20here"}),
        ("GET", "/v1/rerank", None, 405, {"path": "/v1/rerank"}),
    ],
)
async def test_rejected_requests_are_logged(
    lines: Lines, method: str, path: str, body: Any, status: int, found: dict[str, Any]
) -> None:
    async with FakeFrontend().client() as client:
        answer = await client.request(method, path, json=body)
    (line,) = lines.records
    assert line.status == answer.status_code
    assert line.status in (status, 400)
    assert found.items() <= vars(line).items()
    assert SECRET not in str(vars(line))


async def test_an_unexpected_error_is_logged_as_500(lines: Lines) -> None:
    class Broken(WordOverlap):
        async def info(self) -> ModelInfo:
            return None  # type: ignore[return-value]

    async with FakeFrontend(Broken()).client() as client:
        answer = await client.post("/v1/rerank", json=ASK)
    assert answer.status_code == 500
    assert [line.status for line in lines.records] == [500]


async def test_probes_are_logged_at_debug_only(lines: Lines) -> None:
    async with FakeFrontend().client() as client:
        await client.get("/ready")
        await client.get("/v1/models")
    assert [line.levelname for line in lines.records] == ["DEBUG", "INFO"]


async def test_a_rejected_key_is_not_logged(lines: Lines) -> None:
    front = FakeFrontend(ring=KeyRing(("a-good-key-for-search name=search",), None))
    async with front.client() as client:
        for key in ("a-good-key-for-search", "a-wrong-key-from-nobody"):
            await client.post("/v1/rerank", json=ASK, headers={"authorization": f"Bearer {key}"})
    good, bad = lines.records
    assert (good.status, good.key, bad.status, bad.key) == (200, "search", 401, "anonymous")
    assert "-key-f" not in str([vars(line) for line in lines.records])


def test_the_request_log_can_be_disabled(lines: Lines) -> None:
    request_log.disable_request_log()
    request_log.log(request_log.Observed(), 200)
    assert lines.records == []


@pytest.mark.parametrize(
    ("error", "status"), [(None, 200), (UnknownModel("no"), 404), (ValueError("odd"), 500)]
)
def test_a_call_by_handle_is_logged(lines: Lines, error: Exception | None, status: int) -> None:
    with suppress(UnknownModel, ValueError), request_log.observe_call():
        assert request_log.dialect() == "handle"
        if error is not None:
            raise error
    (line,) = lines.records
    assert (line.status, line.method, line.dialect) == (status, "CALL", "handle")


def test_the_dialect_is_that_of_the_current_request() -> None:
    assert request_log.dialect() == "handle"
    with request_log.observe(request_log.Observed(dialect="v2")):
        assert request_log.dialect() == "v2"
    assert request_log.current() is None
