"""Unknown names: which of them stop the start, and what the error suggests."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.settings import SettingsError, load
from serve_app.settings.settings import DECLARED
from serve_app.settings.unknown_names import is_service_link


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RERANKER_MAX_LENGHT", "RERANKER_MAX_LENGTH"),
        ("RERANKER_MAXPARALLEL", "RERANKER_MAX_PARALLEL"),
        ("RERANKER_QUEUE_TIMEOUT_S", "RERANKER_QUEUE_TIMEOUT"),
        ("RERANKER_PORT", "PORT"),
        ("RERANKER_LOG_LEVEL", "LOG_LEVEL"),
        ("RERANKER_CACHE_TTL", "CACHE_TTL_SECONDS"),
        ("CACHE_TTL", "CACHE_TTL_SECONDS"),
        ("CACHE_TTL_MS", "CACHE_TTL_SECONDS"),
        ("CACHE_MAX_BYTE", "CACHE_MAX_BYTES"),
        ("REDIS_TTL", "REDIS_TTL_SECONDS"),
        ("REDIS_READ_TIMEOUT", "REDIS_READ_TIMEOUT_MS"),
        ("REDIS_ENABLE", "REDIS_ENABLED"),
        ("ENABLE_PREDICTON_CACHE", "ENABLE_PREDICTION_CACHE"),
        ("CLEAR_CACHE_INTERVAL_S", "CLEAR_CACHE_INTERVAL"),
        ("MICRO_BATCH_WINDOW", "MICRO_BATCH_WINDOW_MS"),
        ("WARMUP_ONSTART", "WARMUP_ON_START"),
        ("LOG_LEVL", "LOG_LEVEL"),
    ],
)
def test_a_misspelt_variable_stops_the_start_with_the_correct_name(name: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"{name} is not a setting; did you mean {meant}\?"):
        load({}, {name: "1"})


def test_every_declared_variable_with_a_letter_missing_stops_the_start() -> None:
    for setting in DECLARED:
        name = setting.env[:-2] + setting.env[-1]
        if len(name) > len("PORT"):
            with pytest.raises(SettingsError, match=f"did you mean {setting.env}"):
                load({}, {name: "1"})


def test_an_unknown_variable_with_our_prefix_stops_the_start_with_all_known_names() -> None:
    with pytest.raises(SettingsError, match=r"RERANKER_XYZ is not a setting\. Known: .*PORT"):
        load({}, {"RERANKER_XYZ": "1"})


def test_all_misspelt_variables_are_reported_at_once() -> None:
    with pytest.raises(SettingsError, match=r"LOG_LEVL is not .*; RERANKER_MODLE is not"):
        load({}, {"RERANKER_MODLE": "1", "LOG_LEVL": "INFO"})


@pytest.mark.parametrize(
    "name",
    [
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_PASSWORD",
        "CACHE_DIR",
        "CACHE_URL",
        "LOG_FILE",
        "LOG_DIR",
        "ENABLE_METRICS",
        "HOSTNAME",
        "HOSTS",
        "PORTS",
        "PORTAL",
        "RERANK_API_KEY",
        "PATH",
    ],
)
def test_a_variable_of_another_program_stops_nothing(name: str) -> None:
    load({}, {name: "anything"})


def test_a_similar_variable_of_another_program_is_allowed_beside_ours() -> None:
    with pytest.raises(SettingsError, match="If another program needs REDIS_URI, set REDIS_URL"):
        load({}, {"REDIS_URI": "redis://other"})
    for url in ("", "redis://host"):
        load({}, {"REDIS_URI": "redis://other", "REDIS_URL": url})


@pytest.mark.parametrize("service", ["RERANKER", "RERANKER_API", "REDIS", "CACHE", "LOG"])
@pytest.mark.parametrize("address", ["10.96.0.12", "fd00:10:96::c"])
def test_service_links_of_kubernetes_stop_nothing(service: str, address: str) -> None:
    url = f"tcp://{address}:8000"
    links = {
        "SERVICE_HOST": address,
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT": url,
        "PORT_8000_TCP": url,
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": address,
    }
    load({}, {f"{service}_{name}": value for name, value in links.items()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RERANKER_PORT", "8000"),
        ("RERANKER_SERVICE_HOST", "example.org"),
        ("RERANKER_SERVICE_PORT", "http"),
        ("RERANKER_PORT_8000_TCP", "8000"),
        ("RERANKER_HOST", "10.96.0.12"),
    ],
)
def test_a_variable_that_only_resembles_a_service_link_stops_the_start(
    name: str, value: str
) -> None:
    assert not is_service_link(name, value)
    with pytest.raises(SettingsError, match=f"{name} is not a setting"):
        load({}, {name: value})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("max_lenght", "max_length"),
        ("cache_ttl", "cache_ttl_s"),
        ("cache_ttl_seconds", "cache_ttl_s"),
        ("RERANKER_MAX_QUEUE", "max_queue"),
        ("model_s", "models"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest_one(key: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=rf"{key} is not a setting; did you mean {meant}\?"):
        load({key: 5}, {})


def test_an_unknown_argument_that_resembles_none_is_refused_with_all_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"3 is not a setting\. Known: access_log, .*warmup"):
        load({3: 4}, {})  # type: ignore[dict-item]


def test_an_unknown_key_of_a_profile_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("max_qeue: 7\n")
    expected = r"RERANKER_PROFILE.*max_qeue is not a setting; did you mean max_queue\?"
    with pytest.raises(SettingsError, match=expected):
        load({"profile": str(path)}, {})


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ({"name": "a", "devcie": "cpu"}, "device"),
        ({"name": "a", "piplines": []}, "pipeline"),
        ({"name": "a", "providr": "cohere"}, "provider"),
        ({"name": "a", "provider": "cohere", "api_key": "x"}, "api_key_env"),
        ({"name": "a", "pipeline": [{"rerank": "b"}], "budget": 5}, "budget_ms"),
    ],
)
def test_an_unknown_key_of_a_model_is_refused_with_the_nearest_one(
    entry: dict[str, object], meant: str
) -> None:
    with pytest.raises(SettingsError, match=rf"is not a setting; did you mean {meant}\?"):
        load({"models": [entry]}, {})
