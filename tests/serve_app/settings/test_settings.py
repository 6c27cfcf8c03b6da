"""Settings: sections of settings that are declared once, and the specs of local models."""

from __future__ import annotations

import pickle

import pytest
from pydantic import ValidationError

from serve_app.settings import load
from serve_app.settings.settings import DECLARED, Settings


def test_each_flat_name_and_each_variable_stands_for_one_setting() -> None:
    assert len({setting.name for setting in DECLARED}) == len(DECLARED)
    assert len({setting.env for setting in DECLARED}) == len(DECLARED)
    assert {setting.section for setting in DECLARED} == set(Settings.model_fields)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load({}, {}).serving.port = 1  # type: ignore[misc]


def test_settings_can_be_pickled() -> None:
    models = [
        {"name": "a", "num_gpus": 0.5},
        {"name": "b", "provider": "cohere", "model": "m"},
        {"name": "c", "pipeline": [{"rerank": "a"}]},
    ]
    settings = load({"models": models}, {"REDIS_URL": "redis://host", "LOG_LEVEL": "debug"})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_without_mixed_precision_automatic_precision_means_fp32() -> None:
    def dtype(**args: object) -> str:
        settings = load(args, {})
        return settings.spec(settings.models.local()[0]).dtype

    assert dtype() == "auto"
    assert dtype(mixed_precision=False) == "float32"
    assert dtype(mixed_precision=False, quantization="bf16") == "bfloat16"


def test_mlx_can_be_chosen_as_backend_as_device_and_by_its_switch() -> None:
    def spec(environ: dict[str, str], **model: object) -> tuple[str, str, str]:
        settings = load({"models": [{"name": "a", **model}]}, environ)
        found = settings.spec(settings.models.local()[0])
        return found.backend, found.device, found.dtype

    assert spec({"RERANKER_BACKEND": "mlx"}) == ("mlx", "auto", "auto")
    assert spec({"RERANKER_DEVICE": "mlx"}) == ("auto", "mlx", "auto")
    assert spec({"RERANKER_USE_MLX": "true"}) == ("mlx", "auto", "auto")
    assert spec({"RERANKER_USE_MLX": "1"}, backend="torch") == ("torch", "auto", "auto")
    assert spec({"RERANKER_QUANTIZATION": "4bit"}, device="mlx") == ("auto", "mlx", "4bit")


def test_a_models_own_settings_override_those_of_all_models() -> None:
    settings = load(
        {"max_length": 128, "models": [{"name": "a"}, {"name": "b", "max_length": 64}]}, {}
    )
    lengths = [settings.spec(model).max_length for model in settings.models.local()]
    assert lengths == [128, 64]


def test_converted_models_are_stored_in_the_cache_folder_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def folder(**args: object) -> str | None:
        settings = load(args, {})
        return settings.spec(settings.models.local()[0]).conversions

    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert folder() == "/cache/rerank-serve/openvino"
    assert folder(conversions="/other") == "/other"
    assert folder(conversions="none") is None
