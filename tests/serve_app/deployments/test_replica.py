"""The batch options of a running replica."""

from __future__ import annotations

import pytest

from serve_app.deployments.replica import BatchOptions


def test_batch_options() -> None:
    assert BatchOptions.of({}) == BatchOptions()
    assert BatchOptions.of({"window_ms": 5}).window_ms == 5
    for wrong in ({"window_ms": -1}, {"batch_tokens": 0}, {"windw_ms": 5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BatchOptions.of(wrong)
