"""Building blocks of the schemas."""

from __future__ import annotations

from typing import Any

from serve_app.request_options import OPTIONS, Choice, Flag, Image, Integer, Kind, Text

Json = dict[str, Any]

INTEGER: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
TEXT: Json = {"type": "string"}
NOTHING: Json = {"type": "null"}
_IMAGE = r"^(https?://|[Dd][Aa][Tt][Aa]:[Ii][Mm][Aa][Gg][Ee]/[\w.+-]{1,237};[Bb][Aa][Ss][Ee]64,)"


def obj(required: str, **properties: Json) -> Json:
    """An object with required fields (space-separated); additional fields are allowed."""
    return {"type": "object", "required": required.split(), "properties": properties}


def array(items: Json, **more: Any) -> Json:
    return {"type": "array", "items": items, **more}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def any_of(names: list[str]) -> Json:
    return ref(names[0]) if len(names) == 1 else {"anyOf": [ref(name) for name in names]}


def nullable(kind: str, **more: Any) -> Json:
    return {"type": [kind, "null"], **more}


def flag(default: bool, description: str = "") -> Json:
    return {
        **ref("Flag"),
        "default": default,
        **({"description": description} if description else {}),
    }


def word(*words: str) -> Json:
    """One of several words, ignoring case, or null."""
    cases = "|".join("".join(f"[{c.upper()}{c.lower()}]" for c in w) for w in words)
    return nullable("string", pattern=f"^({cases})$")


def option(name: str) -> Json:
    """The schemas of an option's field and its aliases, by name."""
    declared = OPTIONS[name]
    found = {name: {**_kind(declared.kind), "description": declared.description}}
    for alias, other in declared.aliases.items():
        schema = _kind(declared.kind)
        if other.unset is not None:
            schema = {"anyOf": [schema, {"const": other.unset}]}
        found[alias] = {**schema, "description": other.description}
    return found


def _kind(kind: Kind) -> Json:
    match kind:
        case Integer(at_least, at_most):
            bounds = {"minimum": at_least} | ({} if at_most is None else {"maximum": at_most})
            return nullable("integer", **bounds)
        case Text(max_chars):
            return nullable("string", maxLength=max_chars)
        case Image(max_chars):
            return nullable("string", pattern=_IMAGE, maxLength=max_chars)
        case Choice(words):
            return {"enum": [*words, None]}
        case Flag(default):
            return flag(default)
