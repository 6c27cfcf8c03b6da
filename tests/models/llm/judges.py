"""Specs of judges, and documents whose values are their scores."""

from __future__ import annotations

from typing import Any

from models.remote.types import RemoteSpec

DOCUMENTS = ["0.2 a", "0.9 b", "0.5 c", "0.0 d"]
VALUES = [0.2, 0.9, 0.5, 0.0]


def spec_of(url: str, provider: str = "local-chat", **more: Any) -> RemoteSpec:
    return RemoteSpec("judge", provider, "a-model", base_url=url, **more)
