"""Clients that tests, or the libraries that they try, open and do not close."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from functools import wraps
from typing import Any

import httpx
import pytest
import requests


@pytest.fixture
async def closed_connections(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Closes every HTTP client that the test has made, in the test's own event loop."""
    opened: list[Any] = []

    def recorded(kind: Any) -> None:
        original = kind.__init__

        @wraps(original)
        def init(self: Any, *args: Any, **options: Any) -> None:
            original(self, *args, **options)
            opened.append(self)

        monkeypatch.setattr(kind, "__init__", init)

    for kind in (httpx.Client, httpx.AsyncClient, requests.Session):
        recorded(kind)
    yield
    for client in opened:
        if not isinstance(client, httpx.AsyncClient):
            client.close()
            continue
        with suppress(RuntimeError):  # it belongs to a loop that is closed
            await client.aclose()
