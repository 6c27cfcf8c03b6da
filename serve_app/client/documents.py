"""Documents as callers pass them: strings, dicts with a text field, or objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serve_app.errors import InvalidRequest

# Default names of the text field: the service's own, then LangChain's and Haystack's.
_TEXT = ("text", "page_content", "content")
_METADATA = ("metadata", "meta")

TextField = str | Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """`payload` is sent to the service; `metadata` stays with the caller."""

    payload: str | dict[str, Any]
    text: str
    metadata: Mapping[str, Any]


def parse(document: Any, index: int, text_field: TextField | None = None) -> ParsedDocument:
    """Read a document's text and metadata.

    A dict's other keys are its metadata; an object's metadata is its `metadata` or `meta`
    attribute. `text_field` names the key or attribute that holds the text, or is a function that
    returns it; the default is the first of `text`, `page_content` and `content` that is present.
    A dict's `image` is sent along. Raises InvalidRequest if there is no text.
    """
    if isinstance(document, str):
        return ParsedDocument(document, document, {})
    if callable(text_field):
        text, metadata = text_field(document), _metadata(document)
        return ParsedDocument(_string(text, index, "the result of text_field"), text, metadata)
    names = (text_field,) if text_field else _TEXT
    if isinstance(document, Mapping):
        return _mapping(document, index, names)
    for name in names:
        value = getattr(document, name, None)
        if value is not None and not callable(value):
            text = _string(value, index, name)
            return ParsedDocument(text, text, _metadata(document))
    raise _no_text(index, type(document).__name__, names)


def _mapping(document: Mapping[str, Any], index: int, names: tuple[str, ...]) -> ParsedDocument:
    name = next((name for name in names if document.get(name) is not None), None)
    image = document.get("image")
    if name is None and image is None:
        raise _no_text(index, "dict", names)
    text = "" if name is None else _string(document[name], index, name)
    metadata = {key: value for key, value in document.items() if key != name}
    if image is None:
        return ParsedDocument(text, text, metadata)
    payload = {"image": image, "text": text} if text else {"image": image}
    return ParsedDocument(payload, text, metadata)


def _metadata(document: Any) -> Mapping[str, Any]:
    if isinstance(document, Mapping):
        return document
    found = (getattr(document, name, None) for name in _METADATA)
    return next((value for value in found if isinstance(value, Mapping)), {})


def _string(value: Any, index: int, name: str) -> str:
    if isinstance(value, str):
        return value
    raise InvalidRequest(
        f"documents[{index}]: {name} must be a string, not {type(value).__name__}",
        param=f"documents[{index}]",
    )


def _no_text(index: int, kind: str, names: tuple[str, ...]) -> InvalidRequest:
    return InvalidRequest(
        f"documents[{index}] ({kind}) has no {' or '.join(names)}; set text_field to the key or "
        "attribute that holds its text",
        param=f"documents[{index}]",
    )
