"""Loading: precedence of the sources, errors that name the setting, secrets that are not shown."""

from __future__ import annotations

from typing import Any

import pytest

from serve_app.settings import SettingsError, load


def test_flags_override_arguments_and_arguments_the_environment() -> None:
    environ = {"PORT": "1001", "HOST": "0.0.0.0", "RERANKER_MAX_QUEUE": "7"}
    settings = load({"port": 1002, "host": "127.0.0.2"}, environ, {"port": 1003})
    assert (settings.serving.port, settings.serving.host) == (1003, "127.0.0.2")
    assert settings.limits.max_queue == 7


def test_an_empty_variable_means_the_default() -> None:
    assert load({}, {"RERANKER_MAX_LENGTH": ""}).inference.max_length is None


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PORT": "http"}, r"port \(PORT\): .*got 'http'"),
        ({"PORT": "0"}, r"\(PORT\)"),
        ({"RERANKER_MAX_PARALLEL": "0"}, r"max_parallel \(RERANKER_MAX_PARALLEL\)"),
        ({"RERANKER_DEVICE": "tpu"}, r"device \(RERANKER_DEVICE\)"),
        ({"RERANKER_QUANTIZATION": "int1"}, "RERANKER_QUANTIZATION"),
        ({"ENABLE_PREDICTION_CACHE": "perhaps"}, r"cache \(ENABLE_PREDICTION_CACHE\)"),
        ({"RERANKER_MODELS": "[{"}, "RERANKER_MODELS is not JSON"),
        ({"RERANKER_USE_MLX": "true", "RERANKER_BACKEND": "torch"}, "^RERANKER_USE_MLX"),
        ({"REDIS_ENABLED": "perhaps"}, "REDIS_ENABLED"),
        ({"REDIS_URL": "http://localhost:6379"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://localhost:many"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://localhost/first"}, "REDIS_URL"),
        ({"REDIS_READ_TIMEOUT_MS": "0"}, "REDIS_READ_TIMEOUT_MS"),
    ],
)
def test_a_wrong_value_is_reported_with_its_variable(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load({}, environ)


def test_all_wrong_values_are_reported_at_once() -> None:
    with pytest.raises(SettingsError, match=r"PORT.*; max_queue.*; cache_ttl_s"):
        load({"cache_ttl_s": -1, "max_queue": -1}, {"PORT": "http"})


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ({"models": ["text"]}, r"models\.0 \(RERANKER_MODELS\): an entry .* must be an object"),
        ({"models": "text"}, "Input should be a list"),
        ({"models": [{"source": "embedded"}]}, r"models\.0\.name .*: Field required"),
        ({"models": [{"name": "a", "max_length": 1}]}, r"models\.0\.max_length .*got 1"),
        ({"models": [{"name": "a", "provider": "cohere", "window": 1}]}, r"models\.0\.window \("),
        (
            {"models": [{"name": "a", "pipeline": [{"rerank": "b", "keep": 0}]}]},
            r"models\.0\.pipeline\.0\.keep \(RERANKER_MODELS\)",
        ),
        (
            {"models": [{"name": "a", "pipeline": [{"rerank": "b", "kep": 1}]}]},
            r"models\.0\.pipeline\.0\.kep \(RERANKER_MODELS\) is not a setting",
        ),
        ({"resources": {"mlx": -1}}, r"resources\.mlx \(RERANKER_RESOURCES\)"),
    ],
)
def test_an_error_inside_a_value_says_where(args: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load(args, {})


@pytest.mark.parametrize(
    ("args", "environ"),
    [
        ({}, {"REDIS_URL": "redis://user:secret@:x"}),
        ({"redis_url": ["secret"]}, {}),
        ({"api_keys": {"secret": 1}}, {}),
        ({"models": [{"name": "a", "provider": "cohere", "parameters": "secret"}]}, {}),
        ({"models": [{"name": "a", "provider": "cohere", "base_url": "ftp://secret"}]}, {}),
        ({"models": [["secret"]]}, {}),
        ({"models": [{"name": "a", "pasword": "secret"}]}, {}),
    ],
)
def test_errors_show_no_secrets(args: dict[str, Any], environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(args, environ)
    assert "secret" not in str(caught.value)


def test_the_repr_shows_no_secrets() -> None:
    secret = {"parameters": {"auth": "secret"}, "base_url": "https://secret.example"}
    remote = {"name": "a", "provider": "cohere", "model": "m", **secret}
    environ = {"REDIS_URL": "redis://user:secret@host", "RERANKER_API_KEYS": "secret"}
    assert "secret" not in repr(load({"models": [remote]}, environ))


def test_redis_needs_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({}, {"REDIS_ENABLED": "true"}).cache.redis_enabled
    monkeypatch.setattr("serve_app.settings.cache.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"REDIS_ENABLED.*rerank-serve\[redis\]"):
        load({}, {"REDIS_ENABLED": "true"})
