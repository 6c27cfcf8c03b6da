"""What a running replica's merging may be told: the `user_config` of its deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from serve_app.settings_base import Frozen


class BatchOptions(Frozen):
    """`window_ms`: milliseconds to wait for more chunks; `batch_tokens`: tokens of one merged
    batch, in which rows are sorted into micro-batches. What is left out stays as it is."""

    window_ms: float | None = Field(None, ge=0, le=1000)
    batch_tokens: int | None = Field(None, ge=1)

    @staticmethod
    def of(user_config: Mapping[str, Any]) -> BatchOptions:
        """Raises ValueError that names what is wrong."""
        try:
            return BatchOptions.model_validate(user_config)
        except ValidationError as error:
            problems = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors() if e["loc"])
            raise ValueError(f"user_config: {problems or 'not an object'}") from None
