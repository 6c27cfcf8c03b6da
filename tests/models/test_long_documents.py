"""Long documents: truncated, or scored by their best passage."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from models import embedded, long_documents
from models.concurrency import at_checkpoints
from models.registry import load
from models.types import ModelSpec, ScoreOptions, Scorer
from tests.models.checkpoints import tiny_bert_cross_encoder
from tests.models.decoder_checkpoints import qwen3

FILLER = "The weather was mild and the trains ran on time that day. "
ANSWER = "Pandas strip bamboo with their strong teeth."
QUERY = "how do pandas eat bamboo?"
PASSAGES = ScoreOptions(long_document="max_passage")


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return load(ModelSpec("m", dtype="float32", max_length=64))


@pytest.mark.parametrize("before", [0, 20, 40, 80])
def test_an_answer_is_found_wherever_it_is(scorer: Scorer, before: int) -> None:
    document = FILLER * before + ANSWER + " " + FILLER * (80 - before)
    (found,) = scorer.score(QUERY, [document], PASSAGES)
    (filler,) = scorer.score(QUERY, [FILLER * 80], PASSAGES)
    (cut,) = scorer.score(QUERY, [document])
    assert found.logit > filler.logit + 0.2
    assert (found.passages > 10, found.truncated) == (True, False)
    assert (cut.passages, cut.truncated) == (1, True)
    assert found.logit >= cut.logit - 0.02


def test_passages_overlap_and_cover_the_document(scorer: Scorer) -> None:
    words = [f"w{i}" for i in range(400)]
    split = scorer._split(QUERY, [" ".join(words)], PASSAGES)[0][0]  # type: ignore[attr-defined]
    assert {w for p in split for w in p.split()} >= set(words)
    for one, other in itertools.pairwise(split):
        assert other.split()[0].strip("#") in one
    tokenizer = AutoTokenizer.from_pretrained(embedded.folder())
    assert all(len(tokenizer(p)["input_ids"]) <= 64 for p in split)


def test_a_short_document_is_one_passage_with_the_same_score(scorer: Scorer) -> None:
    documents = [ANSWER, "", "short"]
    assert scorer.score(QUERY, documents, PASSAGES) == scorer.score(QUERY, documents)


def test_tokens_count_all_passages(scorer: Scorer) -> None:
    (score,) = scorer.score(QUERY, [FILLER * 40], PASSAGES)
    assert score.tokens > score.passages * 40


def test_max_tokens_per_doc_scores_only_the_first_tokens(scorer: Scorer) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded.folder())
    document = FILLER * 2 + ANSWER
    ids = tokenizer(document, add_special_tokens=False)["input_ids"]
    offsets = tokenizer(document, add_special_tokens=False, return_offsets_mapping=True)
    head = document[: offsets["offset_mapping"][7][1]]
    options = ScoreOptions(max_tokens_per_doc=8)
    cut, short = scorer.score(QUERY, [document, "short"], options)
    assert len(ids) > 8
    assert cut.logit == pytest.approx(scorer.score(QUERY, [head])[0].logit, abs=1e-5)
    assert (cut.truncated, short.truncated) == (True, False)
    (both,) = scorer.score(QUERY, [FILLER * 80], ScoreOptions(None, 200, "max_passage"))
    assert both.truncated
    assert 1 < both.passages < 8


def test_the_settings_are_the_default(tmp_path: Path) -> None:
    path = tiny_bert_cross_encoder(tmp_path)
    spec = ModelSpec(
        "m", source=str(path), long_document="max_passage", max_tokens_per_doc=300, dtype="float32"
    )
    scorer = load(spec)
    (score,) = scorer.score(QUERY, [FILLER * 80])
    assert score.passages > 1
    assert score.truncated
    truncated = scorer.score(QUERY, [FILLER * 80], ScoreOptions(long_document="truncate"))
    assert truncated[0].passages == 1


def test_a_query_that_fills_the_row_leaves_room_for_passages(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(tiny_bert_cross_encoder(tmp_path)), dtype="float32"))
    (score,) = scorer.score("a long query " * 100, [FILLER * 10], PASSAGES)
    assert score.passages > 1


def test_models_with_a_prompt_split_documents_too(tmp_path: Path) -> None:
    scorer = load(ModelSpec("m", source=str(qwen3(tmp_path)), dtype="float32", max_length=400))
    documents = [FILLER * 30, ANSWER]
    long, short = scorer.score(QUERY, documents, PASSAGES)
    assert long.passages > 1
    assert not long.truncated
    assert short.logit == pytest.approx(scorer.score(QUERY, [ANSWER])[0].logit, abs=1e-4)


def test_the_number_of_passages_is_limited(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_documents, "MAX_PASSAGES", 5)
    document = FILLER * 80
    (limited,), (short,) = (scorer.score(QUERY, [d], PASSAGES) for d in (document, FILLER * 10))
    assert (limited.passages, limited.truncated) == (5, True)
    assert (short.passages, short.truncated) == (3, False)


def test_of_a_document_with_too_many_passages_only_the_start_is_tokenised(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_documents, "MAX_PASSAGES", 3)
    parts: list[int] = []
    with at_checkpoints(lambda: parts.append(1)):
        encoded = scorer.encode(QUERY, ["!" * 9_000_000], PASSAGES)
    assert len(encoded.rows) == 1 + 3
    assert len(parts) < 10
