"""An app in process, and a query with documents for it."""

from __future__ import annotations

import httpx

from serve_app.api.app import make_app
from serve_app.api.dialects import Limits
from tests.serve_app.fakes import FakeFrontend, WordOverlap

QUERY, TEXTS = "red fox", ["a blue hen", "a red fox"]


class Front:
    """An app and the backend behind it."""

    def __init__(self) -> None:
        self.backend = WordOverlap()
        self.front = FakeFrontend(self.backend, Limits(max_documents=2000, max_body_bytes=100_000))
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(make_app(lambda: self.front)), base_url="http://rerank"
        )
