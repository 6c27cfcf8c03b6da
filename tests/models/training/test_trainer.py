"""The losses in sentence-transformers' trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)

from models.training import (
    OptimizedRerankerCachedGISTEmbedLoss,
    RerankerCachedGISTEmbedLoss,
    RerankerCallback,
    TextCollator,
)
from tests.models.training.conftest import ANCHORS, POSITIVES
from tests.models.training.stubs import WordGuide

ROWS = {
    "anchor": [f"{text.title()} {i}" for i in range(3) for text in ANCHORS],
    "positive": [f"{text.title()} {i}" for i in range(3) for text in POSITIVES],
}


def arguments(path: Path, **options: Any) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=str(path),
        num_train_epochs=1,
        per_device_train_batch_size=6,
        learning_rate=1e-3,
        logging_steps=1,
        save_steps=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )


@pytest.mark.parametrize("bf16", [False, True])
def test_training_logs_counters_and_saves_the_model_card(
    model: SentenceTransformer, tmp_path: Path, bf16: bool
) -> None:
    guide = WordGuide()
    loss = OptimizedRerankerCachedGISTEmbedLoss(
        model, guide, similarity_threshold=-1, hybrid_threshold=-1, mini_batch_size=4
    )
    before = [p.detach().clone() for p in model.parameters()]
    dataset = Dataset.from_dict(ROWS)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments(tmp_path, bf16=bf16, eval_strategy="epoch"),
        train_dataset=dataset,
        eval_dataset=dataset.select(range(6)),
        loss=loss,
        data_collator=TextCollator(model.preprocess),
    )
    RerankerCallback(loss.counters).attach(trainer)
    trainer.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    # The guide got the dataset's texts, not decoded tokens.
    assert {q for q, _ in guide.asked} <= {*ROWS["anchor"], *ROWS["positive"]}
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 2
    assert all(log["reranker_calls"] > 0 for log in logs)
    assert sum(log["reranker_calls"] for log in logs) == logs[-1]["reranker_calls_total"]
    assert 0 < logs[0]["reranker_share_saved"] < 1
    state = json.loads((tmp_path / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["log_history"][0]["reranker_calls"] == logs[0]["reranker_calls"]
    card = (tmp_path / "checkpoint-2" / "README.md").read_text()
    assert "OptimizedRerankerCachedGISTEmbedLoss" in card
    assert '"preset": "balanced"' in card


def test_without_the_collator_the_guide_gets_decoded_tokens(
    model: SentenceTransformer, tmp_path: Path
) -> None:
    guide = WordGuide()
    SentenceTransformerTrainer(
        model=model,
        args=arguments(tmp_path, max_steps=1, save_strategy="no"),
        train_dataset=Dataset.from_dict(ROWS),
        loss=RerankerCachedGISTEmbedLoss(model, guide),
    ).train()
    lower = {text.lower() for column in ROWS.values() for text in column}
    assert guide.asked
    assert {text for pair in guide.asked for text in pair} <= lower
