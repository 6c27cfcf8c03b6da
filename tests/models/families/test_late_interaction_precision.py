"""MaxSim in bf16, and rows that requests share."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from models.engines.torch_engine import TorchEngine
from models.families.late_interaction import maxsim
from models.registry import load
from models.types import ModelSpec, Scorer, TokenRow

QUERY = "how do pandas eat?"
DOCUMENTS = [
    "Pandas eat bamboo by stripping it with their teeth.",
    "The giant panda lives in the mountains of China.",
    "Bears are mammals with thick fur.",
    "Stock prices fell sharply on Monday.",
    "A sorting algorithm puts elements in order.",
]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load(ModelSpec("embedded", dtype="float32"))


def test_bf16_keeps_the_order(scorer: Scorer) -> None:
    half = load(ModelSpec("half", dtype="bfloat16")).score(QUERY, DOCUMENTS)
    exact = scorer.score(QUERY, DOCUMENTS)
    assert [s.logit for s in half] == pytest.approx([s.logit for s in exact], abs=0.02)
    pairs = list(combinations(range(len(DOCUMENTS)), 2))
    agree = sum(
        (exact[i].logit > exact[j].logit) == (half[i].logit > half[j].logit) for i, j in pairs
    )
    # Kendall's tau is 2 * agree / pairs - 1.
    assert 2 * agree / len(pairs) - 1 >= 0.8


def test_equal_rows_are_run_once(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    run = TorchEngine.run

    def counting(self: TorchEngine, rows: list[TokenRow]) -> list[torch.Tensor]:
        ran.append(len(rows))
        return run(self, rows)

    monkeypatch.setattr(TorchEngine, "run", counting)
    first, second = DOCUMENTS[:3], DOCUMENTS[2:]
    scorer.forward([scorer.encode(QUERY, first), scorer.encode(QUERY, second)])
    assert ran == [1 + len(DOCUMENTS)]


def test_tokens_include_the_query_for_each_document(scorer: Scorer) -> None:
    encoded = scorer.encode(QUERY, DOCUMENTS)
    query, *documents = [len(row) for row in encoded.rows]
    assert list(encoded.tokens) == [query + document for document in documents]


def test_texts_are_cleaned(scorer: Scorer) -> None:
    lone, spaced, clean = scorer.score(QUERY, ["a\ud800", " pandas\x00\n eat ", "pandas eat"])
    [alone] = scorer.score(QUERY, ["a\ufffd"])
    assert lone.logit == pytest.approx(alone.logit, abs=1e-6)
    assert spaced == clean


def test_maxsim_equals_a_loop() -> None:
    torch.manual_seed(0)
    query, *documents = [
        torch.nn.functional.normalize(torch.randn(n, 8), dim=-1) for n in (4, 1, 7, 3)
    ]
    expected = [
        sum(max(float(q @ d) for d in document) for q in query) / len(query)
        for document in documents
    ]
    assert maxsim(query, documents).tolist() == pytest.approx(expected, abs=1e-6)
