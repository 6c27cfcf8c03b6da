"""Profiles: each is valid, and every other source overrides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.settings import SettingsError, load
from serve_app.settings.profiles import names


@pytest.mark.parametrize("name", names())
def test_each_profile_is_valid(name: str) -> None:
    settings = load({"profile": name}, {})
    assert settings.serving.profile == name
    for model in settings.models.local():
        settings.scaling.of(model).deployment_options()


def test_the_documented_profiles_exist() -> None:
    expected = {"development", "production", "cpu-pool", "gpu", "gpu-shared", "mixed"}
    assert expected | {"apple-silicon", "scale-to-zero"} <= set(names())


def test_environment_arguments_and_flags_override_a_profile() -> None:
    environ = {"RERANKER_PROFILE": "production", "RERANKER_MAX_REPLICAS": "3"}
    settings = load({"min_replicas": 2}, environ, {"host": "127.0.0.1"})
    assert (
        settings.scaling.max_replicas,
        settings.scaling.min_replicas,
        settings.serving.host,
    ) == (3, 2, "127.0.0.1")
    assert settings.serving.ingress_replicas == 2


def test_a_profile_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("max_queue: 7\n")
    assert load({"profile": str(path)}, {}).limits.max_queue == 7
    path.write_text("- a list\n")
    with pytest.raises(SettingsError, match="is not a mapping of settings"):
        load({"profile": str(path)}, {})


def test_an_unknown_profile_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        SettingsError, match=r"RERANKER_PROFILE.*'prod' is unknown; use .*production"
    ):
        load({}, {"RERANKER_PROFILE": "prod"})
    with pytest.raises(SettingsError, match="can't be read"):
        load({"profile": "/nowhere/x.yaml"}, {})
