"""The types of access control's settings: how each is read and checked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from serve_app.access.keys import MAX_PER_MINUTE, hashed

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s]+")


def _split(value: object) -> object:
    """Text from the environment is a list with commas; YAML has lists of its own."""
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not parts:
        raise ValueError("there is nothing between the commas")
    return parts


def _hash(value: tuple[str, ...]) -> tuple[str, ...]:
    keys = hashed(value)
    if value and not keys:
        raise ValueError("there is no key in it")
    return keys


def _routes(value: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [route for route in value if not route.startswith("/")]:
        raise ValueError(f"a route begins with a slash, and {wrong[0]!r} does not")
    return value


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [origin for origin in value if not _ORIGIN.fullmatch(origin)]:
        raise ValueError(
            f"an origin is *, or like https://app.example with no path; {wrong[0]!r} is neither"
        )
    return value


def _absolute(value: str) -> str:
    # The replica that reads it works in another folder.
    return str(Path(value).expanduser().absolute())


# Only hashes are kept: settings are pickled, and shown where something fails.
KeyEntries = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_hash)]
Routes = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_routes)]
Origins = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_origins)]
KeyFile = Annotated[str, AfterValidator(_absolute)]
PerMinute = Annotated[int, Field(ge=0, le=MAX_PER_MINUTE)]
