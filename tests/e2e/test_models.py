"""A service with a model of every family returns the scores that they have in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.registry import load
from models.types import ModelSpec, ScoreOptions, relevance
from serve_app.cli.main import main
from tests.e2e.conftest import Service, kill, start
from tests.models.checkpoints import tiny_bert_cross_encoder
from tests.models.decoder_checkpoints import minicpm_layerwise, qwen3
from tests.models.encoder_checkpoints import bert_encoder, folder, stanford_colbert
from tests.models.t5_checkpoints import t5
from tests.models.vision_checkpoints import document, picture, qwen3_vl


def _bi_encoder(path: Path) -> Path:
    return folder(bert_encoder(path / "encoder"), path / "folder")


MAKERS: dict[str, Callable[[Path], Path]] = {
    "cross-encoder": tiny_bert_cross_encoder,
    "causal": qwen3,
    "layerwise": minicpm_layerwise,
    "late-interaction": stanford_colbert,
    "bi-encoder": _bi_encoder,
    "seq2seq": t5,
    "multimodal": qwen3_vl,
}
QUERY = "what do pandas eat?"
DOCUMENTS = [
    "Pandas eat bamboo.",
    "",
    "猫は魚を食べる。",
    "Stock prices fell. " * 30,
    "Bears sleep.",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: make(root / family) for family, make in MAKERS.items()}


@pytest.fixture(scope="module")
def running(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    models = [{"name": name, "source": str(path)} for name, path in folders.items()]
    started = start(
        tmp_path_factory.mktemp("service") / "log",
        RERANKER_MODELS=json.dumps(models),
        RERANKER_QUANTIZATION="fp32",
    )
    yield started
    kill(started)


def _ask(running: Service, **body: Any) -> dict[int, float]:
    sent = {"query": QUERY, "documents": DOCUMENTS, **body}
    answer = httpx.post(f"{running.url}/rerank", json=sent, timeout=60)
    assert answer.status_code == 200, answer.text
    return {hit["index"]: hit["score"] for hit in answer.json()["results"]}


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize("options", [ScoreOptions(), ScoreOptions(max_tokens_per_doc=3)])
def test_the_service_returns_the_librarys_scores(
    running: Service, folders: dict[str, Path], family: str, options: ScoreOptions
) -> None:
    scorer = load(ModelSpec(family, source=str(folders[family]), dtype="float32"))
    assert scorer.info.family == family
    scores = scorer.score(QUERY, DOCUMENTS, options)
    expected = [relevance(score.logit, scorer.info.activation) for score in scores]
    found = _ask(running, model=family, max_tokens_per_doc=options.max_tokens_per_doc)
    # Cached representations are rounded to fp16.
    tolerance = 1e-3 if family in ("late-interaction", "colbert", "bi-encoder") else 1e-4
    assert [found[i] for i in range(len(DOCUMENTS))] == pytest.approx(expected, abs=tolerance)


def test_an_instruction_only_changes_the_scores_of_a_prompted_model(running: Service) -> None:
    plain = _ask(running, model="causal")
    assert _ask(running, model="causal", instruction="Find what cats eat") != plain
    body = {"query": QUERY, "documents": DOCUMENTS, "model": "cross-encoder", "instruction": "x"}
    refused = httpx.post(f"{running.url}/v1/rerank", json=body, timeout=60)
    assert refused.status_code == 422
    assert "does not support instructions" in refused.json()["message"]


def test_images_are_scored_by_a_multimodal_model(
    running: Service, folders: dict[str, Path]
) -> None:
    image = document(picture(96, 64))
    scorer = load(ModelSpec("m", source=str(folders["multimodal"]), dtype="float32"))
    scores = scorer.score(QUERY, [image, "Pandas eat bamboo."])
    expected = [relevance(score.logit, scorer.info.activation) for score in scores]
    sent = [{"image": image.data_uri}, {"text": "Pandas eat bamboo."}]
    found = _ask(running, model="multimodal", documents=sent)
    assert [found[0], found[1]] == pytest.approx(expected, abs=1e-4)

    for model, given, said in (
        ("causal", image.data_uri, "accepts text only"),
        ("multimodal", "data:image/png;base64,AAAA", "in none of"),
        ("multimodal", "https://example.org/a.png", "does not fetch"),
    ):
        body = {"query": QUERY, "documents": [{"image": given}], "model": model}
        refused = httpx.post(f"{running.url}/v1/rerank", json=body, timeout=60)
        assert refused.status_code == 422, refused.text
        assert said in refused.json()["detail"]


@pytest.mark.parametrize("family", ["cross-encoder", "causal", "seq2seq"])
def test_rerank_score_works_with_each_model(
    folders: dict[str, Path],
    tmp_path: Path,
    family: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RERANKER_QUANTIZATION", "fp32")
    (tmp_path / "docs.txt").write_text("\n".join(d for d in DOCUMENTS if d))
    command = ["score", "--model", str(folders[family]), QUERY, str(tmp_path / "docs.txt")]
    assert main(command) == 0
    scores = [float(line.split("\t")[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
