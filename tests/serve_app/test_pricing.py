"""The price of using a model."""

from __future__ import annotations

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from serve_app.pricing import Price

PRICE = TypeAdapter(Price)


def test_tokens_and_requests_are_added_up() -> None:
    price = Price(per_million_tokens=2.0, per_thousand_requests=5.0)
    assert price.of(tokens=500_000, requests=200) == pytest.approx(1.0 + 1.0)
    assert price.of(tokens=0, requests=1) == pytest.approx(0.005)
    assert Price().of(tokens=10**9, requests=10**6) == 0


@pytest.mark.parametrize(
    "sent",
    [
        {"per_million_tokens": -1},
        {"per_thousand_requests": math.inf},
        {"per_million_tokens": math.nan},
        {"per_token": 1},
    ],
)
def test_invalid_prices_are_rejected(sent: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        PRICE.validate_python(sent)
