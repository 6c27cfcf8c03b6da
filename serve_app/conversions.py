"""Where models converted for OpenVINO are kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

SPECIAL = ("auto", "none")


def _absolute(value: str) -> str:
    # The replica that uses it works in another folder.
    return value if value in SPECIAL else str(Path(value).expanduser().absolute())


Conversions = Annotated[str, AfterValidator(_absolute)]


def folder_of(setting: str) -> str | None:
    """The folder that the setting means, by the XDG convention; None for none."""
    if setting == "none":
        return None
    if setting != "auto":
        return setting
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return str(Path(base) / "rerank-serve" / "openvino")
