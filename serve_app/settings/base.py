"""How settings are declared."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Traffic = Literal["auto", "haproxy", "proxy"]


class Frozen(BaseModel):
    """Settings do not change, and unknown ones are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def env(name: str, default: Any, description: str, **bounds: Any) -> Any:
    """A setting with its environment variable."""
    return Field(default, description=description, json_schema_extra={"env": name}, **bounds)
