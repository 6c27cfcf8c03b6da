"""Judges are remote models."""

from __future__ import annotations

from tests.models.remote.conftest import closed as closed
from tests.models.remote.conftest import closed_connections as closed_connections
