"""Remote models are closed at the end of the test that loads them."""

from __future__ import annotations

import pytest

from tests.connections import closed_connections as closed_connections


@pytest.fixture(autouse=True)
async def closed(closed_connections: None) -> None:
    """For every test."""
