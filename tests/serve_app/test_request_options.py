"""Each declared option: its aliases, and agreement between its parser and its schema."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from models.types import DEFAULTS, ModelInfo
from serve_app.api import openapi
from serve_app.api.dialects.options import read
from serve_app.api.openapi.parts import option
from serve_app.errors import InvalidRequest
from serve_app.request_options import OPTIONS, Choice, Flag, Image, Integer, Kind, Text

COMPONENTS = openapi.document("1")["components"]
ALIASES = [(name, alias) for name, declared in OPTIONS.items() for alias in declared.aliases]
VALUES: list[Any] = [
    None,
    True,
    False,
    "true",
    "FALSE",
    "yes",
    -2,
    -1,
    0,
    1,
    2.0,
    1.5,
    999,
    1000,
    10**12,
    "",
    "1",
    "text",
    "x" * 4096,
    "x" * 4097,
    "truncate",
    "max_passage",
    "TRUNCATE",
    "http://example.org/a.png",
    "https://example.org/a.png",
    "ftp://example.org/a.png",
    "data:image/png;base64,AAAA",
    "data:text/plain;base64,AAAA",
    [],
    ["truncate"],
    {},
]


def good_value(kind: Kind) -> Any:
    match kind:
        case Integer(at_least):
            return at_least + 3
        case Text():
            return "find cats"
        case Image():
            return "https://example.org/a.png"
        case Choice(words):
            return words[-1]
        case Flag(default):
            return not default


def parses(body: dict[str, Any], name: str) -> bool:
    try:
        read(body, name)
    except InvalidRequest:
        return False
    return True


def valid(schema: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator({**schema, "components": COMPONENTS}).is_valid(value)


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_read_under_its_own_name(name: str) -> None:
    kind = OPTIONS[name].kind
    unset = kind.default if isinstance(kind, Flag) else None
    assert read({}, name) == read({name: None}, name) == unset
    assert read({name: good_value(kind)}, name) == good_value(kind)


@pytest.mark.parametrize(("name", "alias"), ALIASES)
def test_an_option_is_read_under_each_alias(name: str, alias: str) -> None:
    value = good_value(OPTIONS[name].kind)
    assert read({alias: value}, name) == value
    assert read({alias: value, name: None}, name) == value
    unset = OPTIONS[name].aliases[alias].unset
    if unset is not None:
        assert read({alias: unset}, name) is None
        assert read({alias: unset, name: value}, name) == value


def test_the_lowest_of_several_maxima_counts() -> None:
    sent = {"max_tokens_per_doc": 7, "max_doc_length": 5, "truncate_prompt_tokens": 9}
    assert read(sent, "max_tokens_per_doc") == 5
    assert read({**sent, "max_doc_length": 8}, "max_tokens_per_doc") == 7
    assert read({**sent, "truncate_prompt_tokens": 3}, "max_tokens_per_doc") == 3


def test_the_own_name_of_a_text_option_takes_precedence() -> None:
    assert read({"instruct": "alias", "instruction": "own"}, "instruction") == "own"
    assert read({"instruct": "alias", "instruction": ""}, "instruction") == "alias"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_schema_accepts_what_the_parser_accepts(name: str, value: Any) -> None:
    for field, schema in option(name).items():
        assert valid(schema, value) == parses({field: value}, name), field


@pytest.mark.parametrize(("name", "alias"), [*ALIASES, *((name, name) for name in OPTIONS)])
def test_an_error_names_the_field_that_was_sent(name: str, alias: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{alias} must be") as caught:
        read({alias: ["wrong"]}, name)
    assert caught.value.param == alias


@pytest.mark.parametrize("name", OPTIONS)
def test_attributes_and_capabilities_exist(name: str) -> None:
    declared = OPTIONS[name]
    if declared.attribute is not None:
        assert hasattr(DEFAULTS, declared.attribute)
    if declared.capability is not None:
        assert declared.capability.flag in ModelInfo.__dataclass_fields__
