"""Settings: precedence, refusals that name the setting, names and aliases."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from serve_app.settings.settings import ENV_NAMES, SettingsError, load, table

ROOT = Path(__file__).parents[3]


def test_flags_win_over_arguments_and_arguments_over_the_environment() -> None:
    environ = {"PORT": "1001", "HOST": "0.0.0.0", "RERANKER_MAX_QUEUE": "7"}
    settings = load({"port": 1002, "host": "127.0.0.2"}, environ, {"port": 1003})
    assert (settings.port, settings.host, settings.max_queue) == (1003, "127.0.0.2", 7)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PORT": "http"}, "PORT"),
        ({"PORT": "0"}, "PORT"),
        ({"RERANKER_MAX_PARALLEL": "0"}, "RERANKER_MAX_PARALLEL"),
        ({"RERANKER_DEVICE": "tpu"}, "RERANKER_DEVICE"),
        ({"RERANKER_QUANTIZATION": "int1"}, "RERANKER_QUANTIZATION"),
        ({"ENABLE_PREDICTION_CACHE": "perhaps"}, "ENABLE_PREDICTION_CACHE"),
        ({"RERANKER_MAX_LENGHT": "512"}, "RERANKER_MAX_LENGHT"),
        ({"RERANKER_MODELS": "[{"}, "RERANKER_MODELS"),
        ({"RERANKER_USE_MLX": "true", "RERANKER_BACKEND": "torch"}, "RERANKER_USE_MLX"),
        ({"REDIS_ENABLED": "perhaps"}, "REDIS_ENABLED"),
        ({"REDIS_URL": "http://localhost:6379"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://localhost:many"}, "REDIS_URL"),
        ({"REDIS_URL": "redis://localhost/first"}, "REDIS_URL"),
        ({"REDIS_READ_TIMEOUT_MS": "0"}, "REDIS_READ_TIMEOUT_MS"),
    ],
)
def test_a_wrong_environment_names_the_variable(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load({}, environ)


def test_an_address_is_not_shown_as_it_may_hold_a_password() -> None:
    with pytest.raises(SettingsError) as raised:
        load({}, {"REDIS_URL": "redis://user:secret@:x"})
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(load({}, {"REDIS_URL": "redis://user:secret@host"}))


def test_the_shared_store_needs_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load({}, {"REDIS_ENABLED": "true"}).redis_enabled
    monkeypatch.setattr("serve_app.settings.cache.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"REDIS_ENABLED.*rerank-serve\[redis\]"):
        load({}, {"REDIS_ENABLED": "true"})


def test_an_unknown_argument_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"max_lenght is not a setting.*max_length"):
        load({"max_lenght": 5}, {})


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load({}, {}).port = 1  # type: ignore[misc]


def test_an_empty_variable_is_the_default() -> None:
    assert load({}, {"RERANKER_MAX_LENGTH": ""}).max_length is None


def test_a_local_path_wins_and_gives_the_name() -> None:
    settings = load({}, {"RERANKER_LOCAL_MODEL_PATH": "/m/mine/", "RERANKER_MODEL": "a/b"})
    (model,) = settings.model_settings()
    assert (model.name, model.source) == ("mine", "/m/mine/")


def test_mixed_precision_off_means_fp32_unless_a_precision_is_named() -> None:
    def dtype(**args: object) -> str:
        settings = load(args, {})
        return settings.spec(settings.model_settings()[0]).dtype

    assert dtype() == "auto"
    assert dtype(mixed_precision=False) == "float32"
    assert dtype(mixed_precision=False, quantization="bf16") == "bfloat16"


def test_mlx_is_a_backend_a_device_and_a_switch() -> None:
    def spec(environ: dict[str, str], **model: object) -> tuple[str, str, str]:
        settings = load({"models": [{"name": "a", **model}]}, environ)
        found = settings.spec(settings.model_settings()[0])
        return found.backend, found.device, found.dtype

    assert spec({"RERANKER_BACKEND": "mlx"}) == ("mlx", "auto", "auto")
    assert spec({"RERANKER_DEVICE": "mlx"}) == ("auto", "mlx", "auto")
    assert spec({"RERANKER_USE_MLX": "true"}) == ("mlx", "auto", "auto")
    assert spec({"RERANKER_USE_MLX": "1"}, backend="torch") == ("torch", "auto", "auto")
    assert spec({"RERANKER_QUANTIZATION": "4bit"}, device="mlx") == ("auto", "mlx", "4bit")


def test_a_models_own_settings_win_over_the_services() -> None:
    settings = load(
        {"max_length": 128, "models": [{"name": "a"}, {"name": "b", "max_length": 64}]}, {}
    )
    lengths = [settings.spec(m).max_length for m in settings.model_settings()]
    assert lengths == [128, 64]


def test_hosted_names_are_aliases_of_the_default_and_explicit_ones_win() -> None:
    models = [
        {"name": "fast"},
        {"name": "BAAI/bge-reranker-v2-m3"},
        {"name": "c", "aliases": ["rerank-2"]},
    ]
    catalog = load({"models": models, "default_model": "c"}, {}).catalog()
    assert catalog.resolve(None) == "c"
    assert catalog.resolve("rerank-v3.5") == "c"
    assert catalog.resolve("rerank-2") == "c"
    assert catalog.resolve("BAAI/bge-reranker-v2-m3") == "BAAI/bge-reranker-v2-m3"


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ({"models": [{"name": "a"}, {"name": "a"}]}, "'a' is given twice"),
        ({"models": [{"name": "a", "aliases": ["b"]}, {"name": "b"}]}, "'b' is given twice"),
        ({"models": [{"name": "a"}], "default_model": "z"}, "default_model"),
    ],
)
def test_clashing_names_are_refused(args: dict[str, object], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        load(args, {})


def test_the_documented_table_is_made_from_this_code() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == table() + "\n"
    assert len(ENV_NAMES) > 25
