"""Profiles: files of settings that belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serve_app.errors import installed_by

FOLDER = Path(__file__).parent


class ProfileError(Exception):
    """A profile is unknown or can't be read; the message lists the known ones."""


def names() -> list[str]:
    """The names of the profiles in this package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_profile(name: str) -> dict[str, Any]:
    """The settings of a profile, given its name or the path of a .yaml file.

    Raises ProfileError, or NotInstalled without PyYAML.
    """
    with installed_by("server"):
        import yaml

    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if path.parent == FOLDER and name not in names():
        known = ", ".join(names())
        raise ProfileError(f"{name!r} is unknown; use one of {known}, or a path to a .yaml file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileError(f"{path} can't be read: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or "profile" in values:
        raise ProfileError(f"{path} is not a mapping of settings")
    return values
