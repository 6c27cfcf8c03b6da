"""Error responses and their headers."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.errors import Overloaded
from tests.serve_app.api.fakes import QUERY, TEXTS, Front


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/rerank", {"query": QUERY, "texts": TEXTS}, 429),
        ("/v2/rerank", {"query": QUERY, "documents": TEXTS}, 429),
        ("/score", {"text_1": QUERY, "text_2": TEXTS}, 429),
    ],
)
async def test_a_full_queue_is_reported_with_retry_after(
    app: Front, path: str, body: dict[str, Any], status: int
) -> None:
    app.backend.failures = [Overloaded("full")]
    answer = await app.client.post(path, json=body)
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "1"
    assert (await app.client.post(path, json=body)).status_code == 200
