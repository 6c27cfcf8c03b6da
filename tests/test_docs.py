"""The generated parts of docs/ are those that `make docs` writes."""

from __future__ import annotations

import pytest

from docs import tables


@pytest.mark.parametrize("name", tables.pages())
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (tables.FOLDER / name).read_text(encoding="utf-8") == tables.pages()[name]


def test_a_table_replaces_the_one_between_its_marks() -> None:
    page = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
    assert tables.placed(page, "new") == page.replace("old", "new")
