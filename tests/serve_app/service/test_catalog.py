"""Model names, aliases, and the error for unknown ones."""

from __future__ import annotations

import pytest

from serve_app.errors import UnknownModel
from serve_app.service.catalog import HOSTED_ALIASES, Catalog


def test_names_take_precedence_over_aliases_and_none_is_the_default() -> None:
    catalog = Catalog(("a", "b"), "a", {"x": "b", "b": "a"})
    assert [catalog.resolve(m) for m in (None, "a", "b", "x")] == ["a", "a", "b", "b"]


def test_the_error_for_an_unknown_model_lists_names_and_aliases() -> None:
    with pytest.raises(UnknownModel, match=r"'nope'.*Models: a, b\. Aliases: x\.") as caught:
        Catalog(("a", "b"), "a", {"x": "b"}).resolve("nope")
    assert caught.value.param == "model"


def test_hosted_aliases_are_distinct() -> None:
    assert len(set(HOSTED_ALIASES)) == len(HOSTED_ALIASES) >= 40
