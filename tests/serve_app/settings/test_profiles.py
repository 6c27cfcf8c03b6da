"""Profiles: each is valid, and any other source wins over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_app.settings.profiles import names
from serve_app.settings.settings import SettingsError, load


@pytest.mark.parametrize("name", names())
def test_each_profile_is_a_valid_set_of_settings(name: str) -> None:
    settings = load({"profile": name}, {})
    assert settings.profile == name
    for model in settings.model_settings():
        settings.scaling(model).deployment_options()


def test_the_named_ones_are_there() -> None:
    expected = {"development", "production", "cpu-pool", "gpu", "gpu-shared", "mixed"}
    assert expected | {"apple-silicon", "scale-to-zero"} <= set(names())


def test_environment_arguments_and_flags_win_over_a_profile() -> None:
    environ = {"RERANKER_PROFILE": "production", "RERANKER_MAX_REPLICAS": "3"}
    settings = load({"min_replicas": 2}, environ, {"host": "127.0.0.1"})
    assert (settings.max_replicas, settings.min_replicas, settings.host) == (3, 2, "127.0.0.1")
    assert settings.ingress_replicas == 2


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("max_queue: 7\n")
    assert load({"profile": str(path)}, {}).max_queue == 7
    path.write_text("max_qeue: 7\n")
    with pytest.raises(SettingsError, match="max_qeue is not a setting"):
        load({"profile": str(path)}, {})
    path.write_text("- a list\n")
    with pytest.raises(SettingsError, match="does not hold settings"):
        load({"profile": str(path)}, {})


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"RERANKER_PROFILE.*'prod' is none of .*production"):
        load({}, {"RERANKER_PROFILE": "prod"})
    with pytest.raises(SettingsError, match="can't be read"):
        load({"profile": "/nowhere/x.yaml"}, {})
