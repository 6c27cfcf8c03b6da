"""Arguments of a call: numbers, queries and documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from serve_app.errors import InvalidRequest
from tests.serve_app.client.scripted_servers import Server


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
async def test_invalid_numbers_are_rejected(arguments: dict[str, int], param: str) -> None:
    with pytest.raises(InvalidRequest, match=param):
        await Server().client().rerank("q", ["1"], **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("single", ["one document", b"bytes", {"text": "one document"}, 3])
async def test_a_single_document_must_be_in_a_list(single: Any) -> None:
    server = Server()
    with pytest.raises(InvalidRequest, match="wrap a single document in a list"):
        await server.client().rerank("q", single)
    with pytest.raises(InvalidRequest, match="on_error"):
        await server.client().rerank("q", ["1"], on_error="none")  # type: ignore[arg-type]
    assert not server.bodies


async def test_a_query_must_be_a_string() -> None:
    with pytest.raises(InvalidRequest, match="query must be a string, not int"):
        await Server().client().rerank(3, ["1"])  # type: ignore[arg-type]
    for requests in (["ab"], [("a",)], [3]):
        with pytest.raises(InvalidRequest, match=r"requests\[0\]"):
            await Server().client().batch(requests)  # type: ignore[arg-type]


async def test_arrays_and_frames_are_accepted_as_documents() -> None:
    frame = pd.DataFrame({"text": ["1", "2"], "source": ["x", "y"]})
    found = await Server().client().rerank("q", frame, top_k=np.int64(1))  # type: ignore[arg-type]
    assert (found[0].index, found[0].metadata) == (1, {"source": "y"})
    assert len(await Server().client().rerank("q", frame["text"])) == 2
    assert len(await Server().client().rerank("q", np.array(["1", "2"]))) == 2
