"""Names that are not a setting: which of them stop the start, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from serve_app.settings.base import Setting

PREFIX = "RERANKER_"
# Ratios of difflib. A name that is wrong anyway gets a suggestion from here on.
SIMILAR = 0.75
# A name that may belong to another program is wrong only from here on.
ALMOST_EQUAL = 0.85
_UNIT = re.compile(r"_(SECONDS|S|MS|BYTES)$")

# What Kubernetes injects into a pod for each Service, by its name: names, and their values.
_SERVICE_LINKS = [
    (re.compile(name), re.compile(value))
    for name, value in (
        (r".+_SERVICE_HOST", r"[0-9a-fA-F.:]+"),
        (r".+_SERVICE_PORT(_.+)?", r"\d+"),
        (r".+_PORT(_\d+_(TCP|UDP|SCTP))?", r"(tcp|udp|sctp)://\S+"),
        (r".+_PORT_\d+_(TCP|UDP|SCTP)_PROTO", r"tcp|udp|sctp"),
        (r".+_PORT_\d+_(TCP|UDP|SCTP)_PORT", r"\d+"),
        (r".+_PORT_\d+_(TCP|UDP|SCTP)_ADDR", r"[0-9a-fA-F.:]+"),
    )
]


def unknown(name: str, meant: str | None, known: Iterable[str]) -> str:
    """The error for a name that is not a setting, with what was meant, or else all known names."""
    if meant is not None:
        return f"{name} is not a setting; did you mean {meant}?"
    return f"{name} is not a setting. Known: {', '.join(sorted(known))}"


def similar(name: str, spellings: Mapping[str, str]) -> str | None:
    """The nearest correct name. `spellings`: what may be written, and the correct name for it."""
    close = get_close_matches(name, spellings, n=1, cutoff=SIMILAR)
    return spellings[close[0]] if close else None


def unknown_keys(keys: Iterable[str], declared: Sequence[Setting]) -> Iterator[str]:
    """An error for each key of `args`, or of a profile, that is not a setting."""
    known = {setting.name for setting in declared}
    spellings = {setting.env.lower(): setting.name for setting in declared}
    spellings |= {name: name for name in known}
    for key in map(str, keys):
        if key not in known:
            yield unknown(key, similar(key.lower(), spellings), known)


def unknown_variables(environ: Mapping[str, str], declared: Sequence[Setting]) -> Iterator[str]:
    """An error for each environment variable that is not a setting but is meant to be one.

    That is any name with the prefix RERANKER_, unless Kubernetes injected it. Other programs use
    the prefixes of the other settings too; with these, only a name that is almost equal to a
    setting counts, and only if that setting is not in the environment itself.
    """
    known = {setting.env for setting in declared}
    shared = sorted(name for name in known if not name.startswith(PREFIX))
    # HOST and PORT are too short for a near miss to mean anything.
    prefixes = tuple({re.sub(r"_.*", "_", name) for name in shared if "_" in name})
    # Compared without the prefix, which would make any two names similar.
    spellings = {setting.name.upper(): setting.env for setting in declared}
    spellings |= {name.removeprefix(PREFIX): name for name in known}
    for name in sorted(environ.keys() - known):
        if is_service_link(name, environ[name]):
            continue
        if name.startswith(PREFIX):
            yield unknown(name, similar(name.removeprefix(PREFIX), spellings), known)
        elif name.startswith(prefixes):
            meant = _almost_equal(name, shared)
            if meant is not None and meant not in environ:
                yield (
                    f"{unknown(name, meant, known)} If another program needs {name}, set {meant} "
                    "too (empty: the default)"
                )


def _almost_equal(name: str, known: Sequence[str]) -> str | None:
    """The name that this one is a misspelling of, or that it abbreviates by the unit."""
    for other in known:
        if _UNIT.sub("", name) == _UNIT.sub("", other):
            return other
    close = get_close_matches(name, known, n=1, cutoff=ALMOST_EQUAL)
    return close[0] if close else None


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made the variable for a Service, such as RERANKER_PORT=tcp://10.0.0.1:80.

    Services named `reranker` or `redis` have variables with the prefixes of settings.
    """
    return any(n.fullmatch(name) and v.fullmatch(value) for n, v in _SERVICE_LINKS)
