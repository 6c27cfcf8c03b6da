"""Results as text."""

from __future__ import annotations

from tests.serve_app.client.scripted_servers import Server


async def test_repr_is_the_same_table_as_str() -> None:
    found = await Server().client().rerank("q", ["1", "2"])
    assert repr(found) == str(found)
