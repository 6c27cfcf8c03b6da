"""Cached documents need no row, and score the same as new ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.registry import load
from models.representations import ENTRY_BYTES, Representations
from models.types import ModelSpec, Scorer, ScoringError
from tests.models.encoder_checkpoints import (
    PROMPTS,
    bert_encoder,
    folder,
    pylate_colbert,
    stanford_colbert,
)

TEXTS = [
    "Pandas eat bamboo, mostly.",
    "",
    "!!! ...",
    "猫と魚と水",
    "far beyond the maximum length " * 60,
    *(f"animal {i} eats {'bamboo ' * (i % 9)} and fish number {i * i}" for i in range(60)),
]
QUERIES = ["what do pandas eat?", "質問 и вопрос", "fish", "a long query " * 60]
ROOM = 2**26
KINDS: dict[str, Callable[[Path], ModelSpec]] = {
    "embedded": lambda path: ModelSpec("m"),
    "mean": lambda path: _folder(path, normalize=True, prompts=PROMPTS),
    "dot": lambda path: _folder(path, pooling="max", similarity="dot"),
    "stanford": lambda path: ModelSpec("m", source=str(stanford_colbert(path))),
    "pylate": lambda path: ModelSpec("m", source=str(pylate_colbert(path))),
}


def _folder(path: Path, **options: Any) -> ModelSpec:
    made = folder(bert_encoder(path / "encoder"), path / "folder", **options)
    return ModelSpec("m", source=str(made))


def _load(spec: ModelSpec, room: int, **changes: Any) -> Scorer:
    return load(replace(spec, dtype="float32", representation_cache_bytes=room, **changes))


@pytest.fixture(scope="module", params=list(KINDS))
def spec(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return KINDS[request.param](tmp_path_factory.mktemp(request.param))


def test_cached_documents_score_as_new_ones(spec: ModelSpec) -> None:
    exact, fresh, warm = _load(spec, 0), _load(spec, ROOM), _load(spec, ROOM)
    warm.score("another query", TEXTS)
    for query in QUERIES:
        wanted = [s.logit for s in exact.score(query, TEXTS)]
        new = _load(spec, ROOM).score(query, TEXTS) if query == QUERIES[0] else None
        kept = warm.score(query, TEXTS)
        # The error of dot products grows with the size of the vectors.
        allowed = 1e-3 * max(1.0, *map(abs, wanted))
        assert [s.logit for s in kept] == pytest.approx(wanted, abs=allowed)
        assert [(s.tokens, s.truncated) for s in kept] == [
            (s.tokens, s.truncated) for s in exact.score(query, TEXTS)
        ]
        if new is not None:
            # New ones are rounded like cached ones; only the forward pass's noise remains.
            assert [s.logit for s in new] == pytest.approx([s.logit for s in kept], abs=1e-5)
    assert exact.info.detail != fresh.info.detail
    assert fresh.representation_stats()["entries"] == 0


def test_a_new_query_over_cached_documents_runs_one_row(spec: ModelSpec) -> None:
    scorer = _load(spec, ROOM)
    scorer.score(QUERIES[0], TEXTS)
    encoded = scorer.encode(QUERIES[1], [*TEXTS, "one more"])
    assert len(encoded.rows) == 2
    mixed = scorer.forward([encoded])[0]
    assert len(mixed) == len(TEXTS) + 1
    stats = scorer.representation_stats()
    assert (stats["hits"], stats["misses"]) == (len(TEXTS), len(TEXTS) + 1)
    assert stats["entries"] == len(TEXTS) + 1
    assert 0 < stats["saved_tokens"] < sum(score.tokens for score in mixed)
    assert stats["bytes"] > stats["entries"] * ENTRY_BYTES
    alone = _load(spec, 0).score(QUERIES[1], ["one more"])[0]
    assert mixed[-1].logit == pytest.approx(alone.logit, abs=1e-3, rel=1e-3)
    assert mixed[-1].tokens == alone.tokens


def test_rankings_do_not_depend_on_what_is_cached(spec: ModelSpec) -> None:
    scorer = _load(spec, ROOM)
    scorer.score("another query", TEXTS[::2])
    half = [s.logit for s in scorer.score(QUERIES[0], TEXTS)]
    full = [s.logit for s in scorer.score(QUERIES[0], TEXTS)]
    assert half == pytest.approx(full, abs=1e-5)
    assert _ranked(half) == _ranked(full)


def _ranked(logits: list[float]) -> list[int]:
    return sorted(range(len(logits)), key=lambda i: -round(logits[i], 5))


@pytest.mark.parametrize(
    "options", [{"max_tokens_per_doc": 3}, {"long_document": "max_passage"}, {"max_length": 16}]
)
def test_options_are_never_mixed_up(options: dict[str, Any]) -> None:
    plain, warm = ModelSpec("m"), ModelSpec("m")
    scorer = _load(warm, ROOM, **options)
    scorer.score("another", TEXTS)
    found, wanted = scorer.score(QUERIES[0], TEXTS), _load(plain, 0, **options)
    expected = wanted.score(QUERIES[0], TEXTS)
    assert [s.logit for s in found] == pytest.approx([s.logit for s in expected], abs=1e-3)
    assert [(s.tokens, s.truncated, s.passages) for s in found] == [
        (s.tokens, s.truncated, s.passages) for s in expected
    ]


def test_an_evicted_representation_stays_available_to_its_request() -> None:
    scorer = _load(ModelSpec("m"), 40_000)
    scorer.score("q", ["a first document"])
    encoded = scorer.encode("q", ["a first document"])
    assert len(encoded.rows) == 1
    scorer.score("q", [f"number {i}" for i in range(30)])
    assert scorer.representation_stats()["evictions"] > 0
    assert scorer.representation_stats()["bytes"] <= 40_000
    assert len(scorer.encode("q", ["a first document"]).rows) == 2
    assert scorer.forward([encoded])[0][0].tokens > 0


def test_nan_is_refused_and_not_cached(tmp_path: Path) -> None:
    from transformers import AutoModel

    made = folder(bert_encoder(tmp_path / "encoder"), tmp_path / "folder")
    model = AutoModel.from_pretrained(made)
    torch.nn.init.constant_(model.encoder.layer[1].output.LayerNorm.weight, float("nan"))
    model.save_pretrained(made)
    scorer = _load(ModelSpec("broken", source=str(made)), ROOM)
    with pytest.raises(ScoringError, match="broken"):
        scorer.score("q", ["d"])
    assert scorer.representation_stats()["entries"] == 0


def test_vectors_of_any_length_neither_overflow_nor_vanish() -> None:
    kept = Representations(ROOM)
    for size in (1e-12, 1.0, 1e9):
        vectors = torch.randn(8, generator=torch.Generator().manual_seed(1)) * size
        made = kept.make(vectors, tokens=1, truncated=False, scaled=True)
        assert made.vectors.dtype == torch.float16
        assert torch.allclose(made.vectors.float() * made.scale, vectors, rtol=1e-3, atol=0)
    zero = kept.make(torch.zeros(8), tokens=1, truncated=False, scaled=True)
    assert zero.scale == 1.0


def test_one_thread_may_add_while_others_look_up() -> None:
    kept = Representations(200 * (ENTRY_BYTES + 16))
    made = kept.make(torch.ones(8), tokens=1, truncated=False)

    def work(seed: int) -> None:
        for i in range(3000):
            kept.put(str((i * seed) % 700), made)
            kept.get_many([str(i % 700)])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept.stats()["entries"] == 200
    assert kept.stats()["bytes"] == 200 * (ENTRY_BYTES + 16)
