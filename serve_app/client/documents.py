"""Documents as callers have them: strings, dicts with a text field, objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.errors import InvalidRequest

# Where text is looked for: the service's own name, then LangChain's and Haystack's.
_TEXT = ("text", "page_content", "content")
_METADATA = ("metadata", "meta")

TextField = str | Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Readable:
    """`payload` is what is sent; `metadata` stays with the caller."""

    payload: str | dict[str, Any]
    text: str
    metadata: Mapping[str, Any]


def read(document: Any, index: int, text_field: TextField | None = None) -> Readable:
    """A document's text and metadata.

    A dict's other keys are its metadata; an object's is its `metadata` or `meta`. `text_field`
    names the key or attribute that has the text, or is a function that gives it; without it
    `text`, `page_content` and `content` are looked for. A dict with an `image` is sent with it.
    Raises InvalidRequest where there is no text.
    """
    if isinstance(document, str):
        return Readable(document, document, {})
    if callable(text_field):
        text, metadata = text_field(document), _metadata(document)
        return Readable(_string(text, index, "text_field's result"), text, metadata)
    names = (text_field,) if text_field else _TEXT
    if isinstance(document, Mapping):
        return _mapping(document, index, names)
    for name in names:
        value = getattr(document, name, None)
        if value is not None and not callable(value):
            text = _string(value, index, name)
            return Readable(text, text, _metadata(document))
    raise _no_text(index, type(document).__name__, names)


def _mapping(document: Mapping[str, Any], index: int, names: tuple[str, ...]) -> Readable:
    name = next((name for name in names if document.get(name) is not None), None)
    image = document.get("image")
    if name is None and image is None:
        raise _no_text(index, "dict", names)
    text = "" if name is None else _string(document[name], index, name)
    metadata = {key: value for key, value in document.items() if key != name}
    if image is None:
        return Readable(text, text, metadata)
    return Readable({"image": image, "text": text} if text else {"image": image}, text, metadata)


def _metadata(document: Any) -> Mapping[str, Any]:
    if isinstance(document, Mapping):
        return document
    found = (getattr(document, name, None) for name in _METADATA)
    return next((value for value in found if isinstance(value, Mapping)), {})


def _string(value: Any, index: int, name: str) -> str:
    if isinstance(value, str):
        return value
    raise InvalidRequest(
        f"documents[{index}]: {name} is {type(value).__name__}, not a string",
        param=f"documents[{index}]",
    )


def _no_text(index: int, kind: str, names: tuple[str, ...]) -> InvalidRequest:
    return InvalidRequest(
        f"documents[{index}] is a {kind} without {' or '.join(names)}; say by text_field where "
        "its text is",
        param=f"documents[{index}]",
    )
