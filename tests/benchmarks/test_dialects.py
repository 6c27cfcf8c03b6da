"""The requests of `benchmarks.dialects`, sent to the service's own routes."""

from __future__ import annotations

import pytest

from benchmarks.dialects import DIALECTS
from benchmarks.mixed import is_right
from benchmarks.raw_http import Response
from models.types import relevance
from tests.serve_app.fakes import INFO, FakeFrontend

QUERY = "red fox"
TEXTS = ["a blue hen", "a red fox", "red"]
LOGITS = [0.0, 2.0, 1.0]


async def _answer(name: str) -> Response:
    request = DIALECTS[name].request(QUERY, TEXTS)
    async with FakeFrontend().client() as client:
        headers = {"content-type": "application/json"}
        answer = await client.post(request.path, content=request.body, headers=headers)
    return Response(answer.status_code, {}, answer.content)


@pytest.mark.parametrize("name", DIALECTS)
async def test_scores_are_found_in_the_response(name: str) -> None:
    dialect = DIALECTS[name]
    answer = await _answer(name)
    assert answer.status == 200, answer.body
    right = [x if dialect.raw else relevance(x, INFO.activation) for x in LOGITS]
    assert is_right(dialect, answer, right)
    assert not is_right(dialect, answer, right[::-1])
    assert not is_right(dialect, answer, right[:2])


async def test_each_dialect_of_the_service_is_among_them() -> None:
    found = set()
    for dialect in DIALECTS.values():
        front = FakeFrontend()
        async with front.client() as client:
            await client.post(dialect.path, json=dialect.body(QUERY, TEXTS))
        found |= {name for name, _ in front.telemetry.snapshot(waiting=0, active=0).http}
    assert len(found) >= 10, found
