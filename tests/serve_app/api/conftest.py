"""The app in process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.serve_app.api.fakes import Front


@pytest.fixture
async def app() -> AsyncIterator[Front]:
    front = Front()
    async with front.client:
        yield front
