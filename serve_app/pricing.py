"""The price of using a model, for the client and the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Price:
    """A price in the caller's currency."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    per_million_tokens: Amount = 0.0
    per_thousand_requests: Amount = 0.0

    def of(self, tokens: int, requests: int) -> float:
        return tokens * self.per_million_tokens / 1e6 + requests * self.per_thousand_requests / 1e3
