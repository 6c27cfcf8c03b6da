"""Usage by key and model, and its cost."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_app.client import Price as ClientPrice
from serve_app.pricing import Price
from serve_app.settings import SettingsError, load
from serve_app.telemetry import OTHER_KEYS, Telemetry, merge, to_json, to_prometheus
from serve_app.telemetry.usage import MAX_PAIRS, of_key
from tests.serve_app.fakes import FakeFrontend

BODY = {"query": "pandas eat", "documents": ["pandas", "eat bamboo"]}
EMBEDDED = "all-MiniLM-L6-v2-maxsim"


def record(telemetry: Telemetry, key: str, model: str, tokens: int) -> None:
    telemetry.record_model_usage(key, model, queries=1, documents=2, tokens=tokens, cached_tokens=1)


def test_usage_is_summed_by_model_and_by_key() -> None:
    one, two = Telemetry(), Telemetry()
    record(one, "a", "x", 10)
    record(two, "a", "x", 5)
    record(two, "a", 'y"', 7)
    record(two, "b", "x", 100)
    total = merge([one.snapshot(), two.snapshot()])
    shown = to_json(total)
    assert shown["usage_by_model"]["x"] == {
        "queries": 3,
        "documents": 6,
        "tokens": 115,
        "cached_tokens": 3,
    }
    assert shown["usage_by_key_and_model"]["a"]["x"]["tokens"] == 15
    assert list(shown["usage_by_key_and_model"]) == ["a", "b"]
    families = {f.name: f for f in text_string_to_metric_families(to_prometheus(total).decode())}
    samples = families["rerank_usage_tokens"].samples
    assert {(s.labels["key"], s.labels["model"]): s.value for s in samples} == {
        ("a", "x"): 15,
        ("a", 'y"'): 7,
        ("b", "x"): 100,
    }


def test_costs_are_computed_as_in_the_client() -> None:
    telemetry = Telemetry()
    record(telemetry, "a", "x", 2_000_000)
    record(telemetry, "a", "y", 5)
    prices = {"x": Price(per_million_tokens=0.5, per_thousand_requests=2)}
    found = of_key(telemetry.snapshot().usage_by_model, "a", prices)
    assert [model["cost"] for model in found["models"]] == [pytest.approx(1.002), None]
    assert found["cost"] == pytest.approx(1.002)
    assert ClientPrice is Price
    assert of_key(Counter(), "a", prices) == {"models": [], "cost": 0}


def test_the_number_of_key_and_model_pairs_is_bounded() -> None:
    telemetry = Telemetry()
    for i in range(MAX_PAIRS + 50):
        record(telemetry, f"k{i}", "x", 1)
    counts = to_json(telemetry.snapshot())
    assert len(counts["usage_by_key_and_model"]) == MAX_PAIRS + 1
    assert counts["usage_by_key_and_model"][OTHER_KEYS]["x"]["queries"] == 50
    assert counts["usage_by_model"]["x"]["queries"] == MAX_PAIRS + 50


async def test_without_keys_the_total_usage_is_shown() -> None:
    front = FakeFrontend()
    async with front.client() as client:
        queries = {"queries": ["pandas", "eat", ""], "documents": BODY["documents"]}
        await client.post("/v1/rerank", json=BODY)
        await client.post("/rerank/batch", json=queries)
        found = (await client.get("/v1/usage")).json()
    assert (found["key"], found["requests"]) == ("anonymous", 2)
    (model,) = found["models"]
    assert (model["model"], model["queries"], model["documents"]) == ("words", 3, 6)
    assert model["tokens"] == found["tokens"]


def test_prices_are_a_setting() -> None:
    settings = load({}, {"RERANKER_PRICES": json.dumps({EMBEDDED: {"per_million_tokens": 0.1}})})
    assert settings.access.prices == {EMBEDDED: Price(per_million_tokens=0.1)}


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        ({"none-such": {}}, "'none-such' is not one of the models"),
        ({EMBEDDED: {"per_million_tokens": -1}}, "greater than or equal to 0"),
        ({EMBEDDED: {"per_token": 1}}, "per_token"),
        ("{", "RERANKER_PRICES is not JSON"),
    ],
)
def test_invalid_prices_are_rejected(prices: Any, message: str) -> None:
    text = prices if isinstance(prices, str) else json.dumps(prices)
    with pytest.raises(SettingsError, match=message):
        load({}, {"RERANKER_PRICES": text})
