"""Access settings: keys, key files, origins and open routes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from serve_app.deployments.exposure import ring_of
from serve_app.settings import Settings, SettingsError, load

SECRET = "a-secret-of-mine"


def from_environment(**environ: str) -> Settings:
    return load({}, environ)


def test_keys_from_the_environment_are_hashed_when_read() -> None:
    settings = from_environment(RERANKER_API_KEYS=f"{SECRET} name=a rpm=5, , other-key")
    assert SECRET not in repr(settings) + str(settings.model_dump())
    assert SECRET.encode() not in pickle.dumps(settings)
    ring = ring_of(settings)
    assert ring is not None
    found = ring.keys().find([SECRET.encode()])
    assert found is not None
    assert (found.name, found.rpm) == ("a", 5)
    assert ring.keys().names == {"a", "env-2"}
    assert ring_of(load({"api_keys": [SECRET]}, {})) is not None


@pytest.mark.parametrize(
    "value", [f"{SECRET} and more", f"{SECRET} rpm=x", ",", "  ", "# none", f"sha256:{SECRET}"]
)
def test_invalid_keys_are_rejected_and_not_shown(value: str) -> None:
    with pytest.raises(SettingsError, match="RERANKER_API_KEYS") as caught:
        from_environment(RERANKER_API_KEYS=value)
    assert SECRET not in str(caught.value)


def test_a_key_of_the_wrong_type_is_not_shown() -> None:
    with pytest.raises(SettingsError, match="api_keys") as caught:
        load({"api_keys": {SECRET: 1}}, {})
    assert SECRET not in str(caught.value)


def test_a_relative_key_file_is_resolved_against_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = from_environment(RERANKER_API_KEYS_FILE="keys.txt")
    assert settings.access.api_keys_file == str(tmp_path / "keys.txt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RERANKER_CORS_ORIGINS", "app.example"),
        ("RERANKER_CORS_ORIGINS", "https://app.example/"),
        ("RERANKER_OPEN_ROUTES", "metrics"),
        ("RERANKER_RATE_LIMIT_RPM", "-1"),
        ("RERANKER_RATE_LIMIT_TPM", "many"),
    ],
)
def test_other_invalid_settings_name_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        from_environment(**{name: value})


def test_list_settings_are_separated_by_commas() -> None:
    settings = from_environment(
        RERANKER_CORS_ORIGINS="https://a.example, http://localhost:3000", RERANKER_OPEN_ROUTES="/x"
    )
    assert settings.access.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.access.open_routes == ("/x",)
    assert load({"cors_origins": ["*"]}, {}).access.cors_origins == ("*",)
