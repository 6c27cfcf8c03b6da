"""Remote models are closed at the end of the test that loads them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from models.remote import transport


@pytest.fixture(autouse=True)
async def closed_connections(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """In the test's own event loop, as the connections belong to it."""
    clients: list[httpx.AsyncClient] = []

    def make_client(parallel: int) -> httpx.AsyncClient:
        clients.append(transport.make_client(parallel))
        return clients[-1]

    monkeypatch.setattr("models.remote.remote.make_client", make_client)
    yield
    for client in clients:
        await client.aclose()
