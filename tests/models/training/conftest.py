"""A small sentence-transformers model with random weights, and texts to train on."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from tests.models.encoder_checkpoints import bert_encoder, folder

ANCHORS = ["how do pandas eat", "what fell today", "who sleeps in winter", "why is the sky blue"]
POSITIVES = [
    "pandas strip bamboo with their teeth",
    "stock prices fell today",
    "bears sleep all winter",
    "air scatters blue light",
]
NEGATIVES = [
    ["a panda is a bear", "rain fell on rome", "winter is cold", "the sea is deep"],
    ["bamboo grows fast", "prices rose", "cats sleep too", "the sky was red"],
]
PAIRS = [ANCHORS, POSITIVES]


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoder")
    return folder(bert_encoder(root / "bert"), root / "encoder")


@pytest.fixture
def model(encoder_folder: Path) -> SentenceTransformer:
    """In eval mode: without dropout, so two forward passes agree."""
    return SentenceTransformer(str(encoder_folder), device="cpu").eval()
