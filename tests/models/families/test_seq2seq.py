"""monoT5 and RankT5 against transformers' own model, one pair at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import kendalltau  # type: ignore[import-untyped]
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from models.registry import load
from models.types import ModelLoadError, ModelSpec, Scorer, ScoringError, relevance
from tests.models.t5_checkpoints import t5, t5_own_head

QUERY = "what do pandas eat?"
TEXTS = [
    "Pandas eat bamboo.",
    "",
    "猫と魚と水",
    "вода",
    "مرحبا",
    "pandas pandas",
    "far beyond the maximum length " * 60,
]
KINDS: dict[str, tuple[Callable[..., Path], dict[str, Any], dict[str, str]]] = {
    "monot5": (t5, {}, {}),
    "monot5-own-head": (t5_own_head, {}, {}),
    "monomt5": (t5_own_head, {"kind": "mt5"}, {}),
    "rankt5": (t5, {}, {"template": "rankt5"}),
}
WORDS = {"monot5": ["▁false", "▁true"], "monomt5": ["▁no", "▁yes"], "rankt5": ["<extra_id_10>"]}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than they save with models this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def _transformers(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    model = AutoModelForSeq2SeqLM.from_pretrained(path, dtype=torch.float32)
    return AutoTokenizer.from_pretrained(path), model.to(dtype).eval()


def _logits(
    path: Path, template: str, query: str, texts: list[str], dtype: torch.dtype = torch.float32
) -> list[torch.Tensor]:
    """The answers' logits at the first step, one pair at a time."""
    tokenizer, model = _transformers(path, dtype)
    ids = tokenizer.convert_tokens_to_ids(WORDS[template])
    end = "" if template == "rankt5" else " Relevant:"
    start = torch.tensor([[model.config.decoder_start_token_id]])
    found = []
    for text in texts:
        row = tokenizer(
            f"Query: {query} Document: {text}{end}",
            truncation=True,
            max_length=512,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found.append(model(**row, decoder_input_ids=start).logits[0, 0, ids].float())
    return found


def _reference(path: Path, template: str, query: str, texts: list[str]) -> list[float]:
    """The recipe of the paper: log-softmax of the answers at the first step, or one logit."""
    return [
        float(logits.log_softmax(0)[-1].exp() if len(logits) == 2 else logits[0].sigmoid())
        for logits in _logits(path, template, query, texts)
    ]


@pytest.fixture(scope="module", params=list(KINDS))
def kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Scorer]:
    make, made, asked = KINDS[request.param]
    path = make(tmp_path_factory.mktemp(request.param.replace("rankt5", "r")), **made)
    return path, load(ModelSpec("m", source=str(path), dtype="float32", **asked))  # type: ignore[arg-type]


@pytest.mark.parametrize("query", [QUERY, "вода и 水", "a query that fills the row " * 90])
def test_relevance_equals_the_reference(kind: tuple[Path, Scorer], query: str) -> None:
    path, scorer = kind
    assert scorer.info.family == "seq2seq"
    expected = _reference(path, scorer.info.template or "", query, TEXTS)
    found = [relevance(s.logit, scorer.info.activation) for s in scorer.score(query, TEXTS)]
    assert found == pytest.approx(expected, abs=1e-4)
    if query == QUERY:
        assert max(expected) - min(expected) > 0.01  # otherwise the test would show nothing


@pytest.mark.parametrize(
    "made",
    [
        {"kind": "t5", "tie_word_embeddings": False},
        {"kind": "mt5"},
        {"kind": "umt5", "tie_word_embeddings": False},
    ],
    ids=["t5-unscaled", "mt5-tied", "umt5"],
)
def test_the_head_is_scaled_as_transformers_does(tmp_path: Path, made: dict[str, Any]) -> None:
    path = t5(tmp_path, **made)
    scorer = load(ModelSpec("m", source=str(path), dtype="float32"))
    logits = _logits(path, scorer.info.template or "", QUERY, TEXTS)
    expected = [float(pair[1] - pair[0]) for pair in logits]
    assert [s.logit for s in scorer.score(QUERY, TEXTS)] == pytest.approx(expected, abs=1e-4)


def test_scores_do_not_depend_on_the_other_documents(kind: tuple[Path, Scorer]) -> None:
    path, scorer = kind
    documents = [f"{text[:100]} {i}" for i in range(43) for text in TEXTS][:300]
    batch = [scorer.encode(QUERY, documents), scorer.encode("other", TEXTS)]
    together = [s.logit for s in scorer.forward(batch)[0]][::29]
    alone = [scorer.score(QUERY, [document])[0].logit for document in documents[::29]]
    assert together == pytest.approx(alone, abs=1e-4)
    expected = _reference(path, scorer.info.template or "", QUERY, documents[::29])
    assert [relevance(x, "sigmoid") for x in together] == pytest.approx(expected, abs=1e-4)
    assert scorer.score(QUERY, []) == []


def test_tokens_and_truncation_are_reported(kind: tuple[Path, Scorer]) -> None:
    scores = kind[1].score(QUERY, TEXTS)
    assert [s.truncated for s in scores] == [False] * 6 + [True]
    assert scores[6].tokens == kind[1].info.max_length == 512


def test_bf16_keeps_close_to_fp32(kind: tuple[Path, Scorer]) -> None:
    path, scorer = kind
    template = scorer.info.template or ""
    half = load(ModelSpec("m", source=str(path), dtype="bfloat16", template=template))
    texts = [f"{text[:80]} {i}" for i in range(6) for text in TEXTS]
    exact, rough = (torch.tensor([s.logit for s in m.score(QUERY, texts)]) for m in (scorer, half))
    assert torch.corrcoef(torch.stack([exact, rough]))[0, 1] > 0.99


@pytest.mark.parametrize("template", ["monot5", "rankt5"])
def test_bf16_ranks_as_well_as_transformers_does(tmp_path: Path, template: str) -> None:
    """With random weights bf16 scores are too similar for a tau of 0.99, in transformers too."""
    path = t5(tmp_path / "wide", initializer_factor=1.0)
    texts = [f"{text[:80]} {i}" for i in range(6) for text in TEXTS]
    ours, theirs = [], []
    for name in ("float32", "bfloat16"):
        scorer = load(ModelSpec("m", source=str(path), dtype=name, template=template))
        ours.append([s.logit for s in scorer.score(QUERY, texts)])
        logits = _logits(path, template, QUERY, texts, getattr(torch, name))
        theirs.append([float(row[-1] - row[0] if len(row) == 2 else row[0]) for row in logits])
    assert kendalltau(*ours).statistic > max(0.9, kendalltau(*theirs).statistic - 0.03)


def test_the_recipe_is_found_by_name_and_type(tmp_path: Path) -> None:
    plain, named = t5(tmp_path / "plain"), t5(tmp_path / "RankT5-base")
    assert load(ModelSpec("m", source=str(plain))).info.template == "monot5"
    assert load(ModelSpec("m", source=str(named))).info.template == "rankt5"
    with pytest.raises(
        ModelLoadError, match=r"no template 'qwen3' is known.*monot5, monomt5, rankt5"
    ):
        load(ModelSpec("m", source=str(plain), template="qwen3"))


def test_a_tokenizer_without_the_answers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no token '▁true'"):
        load(ModelSpec("m", source=str(t5(tmp_path, omit="▁true"))))


def test_nan_raises_an_error_that_names_the_model(tmp_path: Path) -> None:
    path = t5(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(path)
    torch.nn.init.constant_(model.decoder.final_layer_norm.weight, float("nan"))
    model.save_pretrained(path)
    with pytest.raises(ScoringError, match="broken"):
        load(ModelSpec("broken", source=str(path))).score("q", ["d"])
