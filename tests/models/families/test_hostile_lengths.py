"""Queries, documents and instructions of any length: the work and the rows are bounded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from models.registry import load
from models.tokenizing import TextTokenizer
from models.types import ModelSpec, ScoreOptions, Scorer
from tests.models.checkpoints import tiny_bert_cross_encoder
from tests.models.decoder_checkpoints import gemma, qwen3
from tests.models.encoder_checkpoints import stanford_colbert
from tests.models.t5_checkpoints import t5

MAKERS: dict[str, Callable[[Path], Path]] = {
    "cross-encoder": tiny_bert_cross_encoder,
    "qwen3": qwen3,
    "bge": gemma,
    "monot5": t5,
    "colbert": stanford_colbert,
}
LONG = "some words of a text. " * 50_000
PUNCTUATION = "!" * 1_000_000


@pytest.fixture(scope="module", params=[*MAKERS, "embedded"])
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    if request.param == "embedded":
        return load(ModelSpec("m", dtype="float32"))
    path = MAKERS[request.param](tmp_path_factory.mktemp(request.param))
    template = "bge" if request.param == "bge" else "auto"
    # Room for a prompt of many tokens, as the decoders' tokenizer has few words.
    length = 600 if request.param in ("qwen3", "bge") else None
    return load(ModelSpec("m", source=str(path), template=template, max_length=length))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Characters of each text that are tokenised."""
    lengths: list[int] = []
    head = TextTokenizer.head

    def counting(self: TextTokenizer, text: str, tokens: int) -> tuple[str, bool]:
        found = head(self, text, tokens)
        lengths.append(len(found[0]))
        return found

    monkeypatch.setattr(TextTokenizer, "head", counting)
    return lengths


@pytest.mark.parametrize("query", ["short", LONG, PUNCTUATION])
@pytest.mark.parametrize("document", ["short", LONG, PUNCTUATION])
def test_only_the_start_of_a_long_text_is_read(
    scorer: Scorer, read: list[int], query: str, document: str
) -> None:
    encoded = scorer.encode(query, [document])
    # A cross-encoder counts on, up to a limit, to see which of two long texts is the longer.
    assert max(read) <= (6000 if "short" in (query, document) else 40_000)
    # The model's own rows, and the prompt around them.
    assert max(map(len, encoded.rows)) <= 1500
    assert encoded.truncated == [len(query) + len(document) > 20]


def test_a_long_query_is_not_tokenised_with_every_document(scorer: Scorer, read: list[int]) -> None:
    scorer.encode(LONG, ["a short document"] * 50)
    assert sum(read) <= 12_000 + 50 * len("Query: Document: a short document Relevant:")


def test_a_long_instruction_is_cut(scorer: Scorer, read: list[int]) -> None:
    encoded = scorer.encode("short", ["short"], ScoreOptions(instruction=LONG))
    assert max(read) <= 6000
    assert max(map(len, encoded.rows)) <= 1500


def test_the_long_query_of_a_seq2seq_model_fills_its_rows(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(t5(tmp_path)), dtype="float32"))
    query, documents = "pandas eat bamboo " * 500, ["a", "pandas", ""]
    encoded = scorer.encode(query, documents)
    texts = [f"Query: {query} Document: {document} Relevant:" for document in documents]
    tokenizer = scorer._scorer._tokenizer  # type: ignore[attr-defined]
    expected = tokenizer(texts, truncation=True, max_length=scorer.info.max_length)
    assert [list(row.input_ids) for row in encoded.rows] == expected["input_ids"]
    assert encoded.truncated == [True] * 3
