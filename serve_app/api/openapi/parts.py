"""Building blocks of the schemas."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

INTEGER: Json = {"type": "integer"}
NUMBER: Json = {"type": "number"}
TEXT: Json = {"type": "string"}
NOTHING: Json = {"type": "null"}


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
