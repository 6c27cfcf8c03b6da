"""docs/providers.md: the table matches the code, and the examples work."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from models.registry import load_remote
from models.remote.document import table
from models.remote.providers import PROVIDERS
from serve_app.settings import load
from tests.models.llm import fake_chat
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import CASES

TEXT = (Path(__file__).parents[3] / "docs" / "providers.md").read_text(encoding="utf-8")
EXAMPLES = [json.loads(found) for found in re.findall(r"RERANKER_MODELS='(\[.*?\])'", TEXT)]


def test_the_table_is_made_from_the_code() -> None:
    assert table() in TEXT
    assert table().count("\n") == len(PROVIDERS) + 1


def test_every_form_has_an_example() -> None:
    forms = {PROVIDERS[entry["provider"]].form for (entry,) in EXAMPLES}
    assert forms == {row.form for row in PROVIDERS.values()}


@pytest.mark.parametrize("models", EXAMPLES, ids=lambda models: models[0]["provider"])
async def test_an_example_ranks(models: list[dict[str, str]], tmp_path: Path) -> None:
    (model,) = load({"models": models}, {}).models.served()
    spec = model.spec()
    name = spec.provider
    answer = CASES[name].answer if name in CASES else fake_chat.ranking
    with fake.serving(answer) as provider:
        (tmp_path / "key").write_text("identity:secret")
        spec = replace(
            spec, base_url=provider.url, api_key_env=None, api_key_file=str(tmp_path / "key")
        )
        scores = await load_remote(spec, {}).score("a query", ["0.25 a", "0.75 b"])
    assert scores[1].logit > scores[0].logit
