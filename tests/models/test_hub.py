"""Models by name: downloaded once from a hub, then read from the cache, with `rerank score`.

Each case runs in its own process, because the hub's library reads its settings at import.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import environment
from tests.hub_server import COMMIT, serving
from tests.models.checkpoints import tiny_bert_cross_encoder

NAME = "acme/tiny-reranker"


def _score(tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "docs.txt").write_text("one\ntwo\nthree\n")
    env = environment(HF_HOME=str(tmp_path / "cache"), RERANKER_MODEL=NAME, **settings)
    return subprocess.run(
        [sys.executable, "-m", "serve_app", "score", "a query", str(tmp_path / "docs.txt")],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_named_model_is_downloaded_with_a_progress_bar_and_cached(tmp_path: Path) -> None:
    checkpoint = tiny_bert_cross_encoder(tmp_path / "checkpoint")
    (checkpoint / "pytorch_model.bin").write_bytes(b"a pickle, which nobody wants")
    (checkpoint / "onnx").mkdir()
    (checkpoint / "onnx" / "config.json").write_text("{}")
    with serving(NAME, checkpoint) as (endpoint, asked):
        first = _score(tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0")
        assert first.returncode == 0, first.stderr
        assert "100%" in first.stderr
        assert any(path.endswith("model.safetensors") for path in asked)
        assert not any(path.endswith((".bin", "onnx/config.json")) for path in asked)
    again = _score(tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert len(first.stdout.splitlines()) == 3
    assert list((tmp_path / "cache").rglob(COMMIT))


def test_a_name_that_the_hub_does_not_know_is_reported(tmp_path: Path) -> None:
    with serving("someone/else", tmp_path / "none") as (endpoint, _):
        done = _score(tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0")
    assert done.returncode == 1
    assert done.stderr.startswith("rerank: ")
    assert NAME in done.stderr
    assert endpoint in done.stderr
    assert "RERANKER_LOCAL_MODEL_PATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_hub_is_reported(tmp_path: Path) -> None:
    with serving("someone/else", tmp_path / "none") as (endpoint, _):
        pass  # nothing listens there any more
    done = _score(tmp_path, HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0")
    assert done.returncode == 1
    assert done.stderr.count("rerank: ") == 1
    assert endpoint in done.stderr
