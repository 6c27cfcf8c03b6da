"""docs/settings.md, made from the declarations."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from serve_app.settings.base import Setting
from serve_app.settings.models import keys_of
from serve_app.settings.settings import DECLARED, Settings

_HEAD = """\
# Settings

Made from the code by `make docs`. A flag of `rerank up` overrides the argument in
`serve_config.yaml`, which overrides the environment variable, which overrides the profile. An empty
environment variable counts as unset.

An unknown name stops the start, with the nearest known one in the error: any key of the arguments
or of a profile, any environment variable that starts with `RERANKER_`, and any other variable that
is almost equal to one of those below. Variables that Kubernetes injects for Services, such as
`RERANKER_PORT=tcp://10.0.0.1:8000`, are ignored."""

_COLUMNS = """\
| environment variable | argument | default | description |
|---|---|---|---|"""


def table() -> str:
    """The settings as a Markdown document."""
    return "\n".join([_HEAD, *_sections(), "", "## Entries of `models`", *_entries()])


def _sections() -> Iterator[str]:
    for section, settings in groupby(DECLARED, key=lambda setting: setting.section):
        summary = str(getattr(Settings.model_fields[section].annotation, "__doc__", ""))
        yield f"\n## {section.capitalize()}\n\n{_linked(summary)}\n\n{_COLUMNS}"
        yield from map(_row, settings)


def _row(setting: Setting) -> str:
    description = _linked(setting.description)
    if setting.is_json:
        description += " As JSON in the environment."
    cells = (f"`{setting.env}`", f"`{setting.name}`", _shown(setting.default), description)
    return f"| {' | '.join(cells)} |"


def _shown(default: Any) -> str:
    if default in (None, "", (), {}):
        return ""
    if isinstance(default, tuple):
        default = ",".join(default)
    if isinstance(default, bool):
        default = str(default).lower()
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _linked(text: str) -> str:
    return re.sub(r"docs/(\w+\.md)", r"[\1](\1)", text)


def _entries() -> Iterator[str]:
    local, remote, pipeline = (keys_of(kind) for kind in ("local", "remote", "pipeline"))
    shared = [key for key in local if key in remote]
    for which, keys in (
        ("Every model", shared),
        ("A local model, in addition", [key for key in local if key not in shared]),
        (
            "A model with a `provider` ([providers.md](providers.md)), in addition",
            [key for key in remote if key not in shared],
        ),
        ("A pipeline ([pipelines.md](pipelines.md))", pipeline),
    ):
        yield f"\n{which}: " + ", ".join(f"`{key}`" for key in keys) + "."
