"""The routes on top of a service with pipelines, in process."""

from __future__ import annotations

import httpx
import pytest

from serve_app.api.app import make_app
from tests.serve_app.api.dialects.fakes import CASCADE
from tests.serve_app.fakes import FakeFrontend
from tests.serve_app.service.pipelines.fakes import Kit, pipeline_of


@pytest.fixture
def kit() -> Kit:
    return Kit(both=pipeline_of(*CASCADE))


@pytest.fixture
def client(kit: Kit) -> httpx.AsyncClient:
    front = FakeFrontend()
    front.service = kit.service
    transport = httpx.ASGITransport(make_app(lambda: front), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")
