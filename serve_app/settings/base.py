"""How settings are declared, and how the declarations are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field


class SettingsError(Exception):
    """A setting is wrong or unknown; the message names it."""


class Frozen(BaseModel):
    """A model that cannot change and rejects unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def split(value: object) -> object:
    """Split text from the environment at its commas; YAML has lists."""
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not parts:
        raise ValueError("must contain at least one value")
    return parts


def setting(
    env: str,
    default: Any,
    description: str,
    *,
    name: str | None = None,
    json: bool = False,
    **options: Any,
) -> Any:
    """Declare a setting of a section.

    `name`: its flat name, where that differs from the attribute. `json`: its environment variable
    holds JSON. With `repr=False` its value is shown neither in a repr nor in an error.
    """
    extra: dict[str, Any] = {"env": env, "name": name, "json": json}
    return Field(default, description=description, json_schema_extra=extra, **options)


@dataclass(frozen=True, slots=True)
class Setting:
    """A declared setting: its place in `Settings` and its names outside.

    `name` is its flat name: the key in `args` and in profiles.
    """

    section: str
    attribute: str
    name: str
    env: str
    description: str
    default: Any
    is_json: bool
    is_secret: bool


def declared(settings: type[BaseModel]) -> Iterator[Setting]:
    """The settings of all sections, in order."""
    for section, holder in settings.model_fields.items():
        for attribute, field in cast(type[BaseModel], holder.annotation).model_fields.items():
            extra = cast(dict[str, Any], field.json_schema_extra)
            yield Setting(
                section=section,
                attribute=attribute,
                name=extra["name"] or attribute,
                env=extra["env"],
                description=str(field.description),
                default=field.default,
                is_json=extra["json"],
                is_secret=not field.repr,
            )
