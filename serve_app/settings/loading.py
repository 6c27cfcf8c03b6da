"""Loads the settings from the environment, arguments, flags and a profile, by their flat names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from serve_app.settings.base import Setting, SettingsError
from serve_app.settings.models import RemoteModel, misplaced
from serve_app.settings.profiles import ProfileError, read_profile
from serve_app.settings.settings import DECLARED, Settings
from serve_app.settings.unknown_names import unknown_keys, unknown_variables

_BY_PLACE: dict[tuple[int | str, ...], Setting] = {(s.section, s.attribute): s for s in DECLARED}
_SECRET_KEYS = {name for name, field in RemoteModel.model_fields.items() if not field.repr}


def load(
    args: Mapping[str, Any],
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
) -> Settings:
    """Load the settings: flags override arguments, these the environment, and that a profile.

    Raises SettingsError, which names the setting that is wrong and its environment variable.
    """
    values = {**_from_environment(environ), **_known({**args, **(flags or {})})}
    if values.get("profile"):
        values = {**_from_profile(str(values["profile"])), **values}
    try:
        return Settings.model_validate(_in_sections(values))
    except ValidationError as error:
        raise SettingsError("; ".join(_explained(e) for e in error.errors())) from None


def _in_sections(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    sections: dict[str, dict[str, Any]] = {setting.section: {} for setting in DECLARED}
    for setting in DECLARED:
        if setting.name in values:
            sections[setting.section][setting.attribute] = values[setting.name]
    return sections


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    if wrong := list(unknown_variables(environ, DECLARED)):
        raise SettingsError("; ".join(wrong))
    values: dict[str, Any] = {}
    for setting in DECLARED:
        text = environ.get(setting.env, "")
        if text == "":
            continue
        try:
            values[setting.name] = json.loads(text) if setting.is_json else text
        except ValueError as error:
            raise SettingsError(f"{setting.env} is not JSON: {error}") from None
    return values


def _known(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if wrong := list(unknown_keys(values, DECLARED)):
        raise SettingsError("; ".join(wrong))
    return values


def _from_profile(name: str) -> Mapping[str, Any]:
    try:
        return _known(read_profile(name))
    except (ProfileError, SettingsError) as error:
        raise SettingsError(f"profile (RERANKER_PROFILE): {error}") from None


def _explained(error: ErrorDetails) -> str:
    """One validation error, with the flat name and the environment variable of its setting."""
    message = error["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    loc = error["loc"]
    setting = _BY_PLACE.get(loc[:2])
    if setting is None:
        return message  # of several settings, which it names itself
    # The part after an index is the tag of the class that a union has chosen, not a key.
    parts = [part for before, part in pairwise(loc[1:]) if not isinstance(before, int)]
    where = f"{'.'.join([setting.name, *map(str, parts)])} ({setting.env})"
    if error["type"] == "extra_forbidden":
        if setting.name == "models" and len(loc) == 5:
            return f"{where}: {misplaced(str(loc[3]), str(loc[4]))}"
        return f"{where} is not a setting"
    is_secret = setting.is_secret or not _SECRET_KEYS.isdisjoint(loc)
    # An object or a list may hold a secret somewhere.
    if is_secret or isinstance(error["input"], (Mapping, list, tuple)):
        return f"{where}: {message}"
    return f"{where}: {message}, got {error['input']!r}"
