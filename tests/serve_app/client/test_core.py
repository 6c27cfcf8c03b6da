"""The async client against a scripted server and over a real connection."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.client import AsyncReranker, Reranker, TokenUsageTracker
from serve_app.errors import InvalidRequest, UnknownModel
from tests.serve_app.client.scripted_servers import BatchServer, Server, no_failure
from tests.serve_app.fakes import FakeFrontend


async def test_scores_are_in_the_documents_order() -> None:
    client = Server().client(batch_size=2)
    assert await client.compute_scores("q", ["3", "9", "5"], top_k=1) == [3.0, 9.0, 5.0]
    assert await client.score("q", "7") == 7.0
    scores, tokens = await client.similarity("q", ["3", "9", "5"])
    assert (scores.tolist(), scores.dtype.kind, tokens) == ([3.0, 9.0, 5.0], "f", 3)
    empty, none = await client.similarity("q", [])
    assert (empty.shape, none) == ((0,), 0)


@pytest.mark.parametrize(
    ("target", "options", "param"),
    [
        ("127.0.0.1:8000", {}, "target"),
        ("localhost", {}, "target"),
        ("ftp://host", {}, "target"),
        ("http://", {}, "target"),
        ("", {}, "target"),
        (None, {}, "target"),
        ("http://test", {"dialect": "other"}, "dialect"),
        ("http://test", {"on_error": "ignore"}, "on_error"),
        ("http://test", {"timeout_s": 0}, "timeout_s"),
        ("http://test", {"max_connections": 0}, "max_connections"),
    ],
)
def test_invalid_constructor_arguments_are_rejected(
    target: Any, options: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        AsyncReranker(target, **options)
    assert raised.value.param == param


def test_the_service_ranks_all_queries_in_one_request(
    url: str, front: FakeFrontend, tracker: TokenUsageTracker
) -> None:
    before = front.telemetry.snapshot().http["batch", 200]
    with Reranker(url, tracker=tracker, tool="many") as client:
        found = client.batch(
            [("pandas eat", ["stocks fell", "pandas eat"]), (" ", ["a"]), ("c", []), ("a", ["a"])],
            top_k=1,
            on_error="report",
        )
    assert front.telemetry.snapshot().http["batch", 200] == before + 1
    assert [[hit.index for hit in result] for result in found] == [[1], [], [], [0]]
    assert [result.query for result in found] == ["pandas eat", " ", "c", "a"]
    (failure,) = found[1].failures
    assert isinstance(failure.error, InvalidRequest)
    assert failure.error.__notes__ == ["documents 0 to 0 of query 1"]
    assert not found[0].failures
    (row,) = tracker.snapshot().rows
    assert (row.requests, row.tokens) == (1, found[0].tokens + found[3].tokens)


def test_the_first_failure_raises_by_default(reranker: Reranker) -> None:
    with pytest.raises(InvalidRequest) as raised:
        reranker.batch([("a", ["a"]), (" ", ["a", "b"])])
    assert raised.value.__notes__[-1] == "documents 0 to 1 of query 1"
    with pytest.raises(UnknownModel, match="none-such"):
        reranker.batch([("a", ["a"]), ("b", ["a"])], model="none-such")


async def test_invalid_arguments_name_the_option_or_query() -> None:
    client = BatchServer(no_failure).client()
    with pytest.raises(TypeError, match="'topk'"):
        await client.batch([("a", ["1"])], topk=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidRequest) as raised:
        await client.batch([("a", ["1"]), ("b", [3])])
    assert raised.value.__notes__ == ["query 1"]
    assert await client.batch([]) == []


async def test_an_unknown_option_of_a_call_is_refused(url: str) -> None:
    async with AsyncReranker(url) as client:
        with pytest.raises(TypeError, match=r"rerank\(\) got .* 'nonsense'"):
            await client.rerank("a", ["b"], nonsense=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"batch\(\) got .* 'nonsense'"):
            await client.batch([("a", ["b"])], nonsense=1)  # type: ignore[call-arg]
