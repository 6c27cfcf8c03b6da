"""Access settings, their checks at startup, and `rerank key`."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from serve_app.cli.main import main
from serve_app.deployments.exposure import check_keys, exposure_warning, ring_of
from serve_app.settings import Settings, SettingsError, load

SECRET = "a-secret-of-mine"


def from_environment(**environ: str) -> Settings:
    return load({}, environ)


def test_without_keys_there_is_no_key_ring() -> None:
    assert ring_of(load({}, {})) is None


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


def test_errors_in_keys_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"RERANKER_API_KEYS_FILE.*nowhere"):
        check_keys(from_environment(RERANKER_API_KEYS_FILE=str(tmp_path / "nowhere")))
    with pytest.raises(SettingsError, match=r"RERANKER_API_KEYS\).*the same key"):
        check_keys(from_environment(RERANKER_API_KEYS="k name=a,k name=b"))


def test_a_relative_key_file_is_resolved_against_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = from_environment(RERANKER_API_KEYS_FILE="keys.txt")
    assert settings.access.api_keys_file == str(tmp_path / "keys.txt")


def test_the_documented_key_file_is_valid(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "access.md").read_text()
    (example,) = re.findall(r"```\n(# SHA.*?)```", text, re.DOTALL)
    (tmp_path / "keys").write_text(example)
    ring = ring_of(load({"api_keys_file": str(tmp_path / "keys")}, {}))
    assert ring is not None
    assert ring.keys().names == {"search", "batch", "line-4"}


@pytest.mark.parametrize(
    ("host", "exposed"),
    [
        ("127.0.0.1", False),
        ("127.1.2.3", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("10.0.0.7", True),
        ("rerank.internal", True),
        ("", True),
    ],
)
def test_a_service_without_keys_on_a_public_address_gets_a_warning(
    host: str, exposed: bool
) -> None:
    warning = exposure_warning(host, load({}, {}))
    assert (warning is not None) == exposed
    assert warning is None or "WITHOUT API KEYS" in warning
    assert exposure_warning(host, from_environment(RERANKER_API_KEYS=SECRET)) is None


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


def test_the_key_command_prints_a_key_and_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["key", "--name", "search", "--rpm", "60", "--tpm", "0"]) == 0
    shown = capsys.readouterr()
    key = shown.err.split()[-1]
    assert key.startswith("rk_")
    assert key not in shown.out
    assert shown.out.endswith(" name=search rpm=60 tpm=0\n")
    (tmp_path / "keys").write_text(shown.out)
    ring = ring_of(load({"api_keys_file": str(tmp_path / "keys")}, {}))
    assert ring is not None
    assert ring.keys().find([key.encode()]) is not None
    assert main(["key", "--name", "two words"]) == 1
    assert main(["key"]) == 0
    assert len(capsys.readouterr().out.split()) == 1
