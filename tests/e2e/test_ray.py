"""The application as Ray users run it: called by handle, and started with `serve run`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from sentence_transformers import CrossEncoder

from serve_app.deployments.ports import free_port
from tests.e2e.conftest import environment
from tests.models.checkpoints import tiny_bert_cross_encoder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
QUERY, DOCUMENTS = "what do pandas eat", ["Stocks fell.", "Bamboo, for pandas."]


def test_calls_by_handle_return_the_same_as_http(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.second_application", str(free_port()), str(answer)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(answer.read_text())
    by_http = [[hit["index"], hit["relevance_score"]] for hit in seen["http"]["results"]]
    assert seen["handle"]["results"] == by_http
    # Two batches are split into other micro-batches than one.
    scores = [pytest.approx(score, abs=1e-4) for _, score in by_http]
    assert [score for _, score in seen["handle"]["client"]] == scores
    assert [index for index, _ in seen["handle"]["client"]] == [index for index, _ in by_http]
    assert [seen["scores"][index] for index, _ in by_http] == scores
    assert by_http[0][0] == 1
    assert (seen["handle"]["model"], seen["http"]["model"], seen["other"]["model"]) == (
        "one",
        "one",
        "two",
    )
    assert seen["handle"]["problems"][1::2] == ["BadRequest", "UnknownModel"]
    assert seen["handle"]["order"] == [0, 1, 2]
    assert seen["handle"]["spans"][1] == ["Pandas eat bamboo."]


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    """A separate folder for Ray's files, so that other clusters on this machine are not found.

    Without the token that Ray asks for by default.
    """
    # A short path, since the length of Ray's socket paths is limited.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        yield environment(RAY_AUTH_MODE="disabled", RAY_TMPDIR=folder)


@contextmanager
def _running(command: list[str], log: Path, env: dict[str, str]) -> Iterator[None]:
    """Run a command in the foreground; stop it as Ctrl-C does."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Background jobs of a shell ignore the signal, and this command would inherit that.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    try:
        yield
        assert process.poll() is None, log.read_text(errors="replace")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        try:
            if httpx.get(url, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)


def _config(tmp_path: Path, port: int) -> str:
    text = (ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}")
    (tmp_path / "serve_config.yaml").write_text(text)
    return str(tmp_path / "serve_config.yaml")


def _rank(url: str) -> dict[str, Any]:
    answer = httpx.post(f"{url}/rerank", json={"query": QUERY, "documents": DOCUMENTS}, timeout=60)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def test_serve_run_with_the_config_file(tmp_path: Path, env: dict[str, str]) -> None:
    port, log = free_port(), tmp_path / "log"
    with _running(["serve", "run", _config(tmp_path, port)], log, env):
        _wait_for(f"http://127.0.0.1:{port}/ready", log)
        assert _rank(f"http://127.0.0.1:{port}")["results"][0]["index"] == 1


def test_deploy_to_a_cluster_then_run_a_second_application_with_arguments(
    tmp_path: Path, env: dict[str, str]
) -> None:
    gcs, dashboard, http = free_port(), free_port(), free_port()
    head = ["ray", "start", "--head", "--block", f"--port={gcs}", "--include-dashboard=true"]
    head += [f"--dashboard-port={dashboard}", "--disable-usage-stats", "--num-cpus=4"]
    with _running(head, tmp_path / "head", env):
        address = f"http://127.0.0.1:{dashboard}"
        _wait_for(f"{address}/api/version", tmp_path / "head")
        deployed = subprocess.run(
            [str(BIN / "serve"), "deploy", "-a", address, _config(tmp_path, http)],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert deployed.returncode == 0, deployed.stderr
        url = f"http://127.0.0.1:{http}"
        _wait_for(f"{url}/ready", tmp_path / "head")
        assert _rank(url)["results"][0]["index"] == 1

        folder = tiny_bert_cross_encoder(tmp_path / "acme-reranker")
        run = ["serve", "run", "-a", f"127.0.0.1:{gcs}", "--name=second", "--route-prefix=/second"]
        run += ["serve_app.app:build", f"local_model_path={folder}", "max_length=64"]
        with _running(run, tmp_path / "second", env):
            _wait_for(f"{url}/second/ready", tmp_path / "second")
            answer = _rank(f"{url}/second")
            model = httpx.get(f"{url}/second/health").json()["models"]["acme-reranker"]
    assert answer["model"] == "acme-reranker"
    assert (model["family"], model["max_length"]) == ("cross-encoder", 64)
    reference = CrossEncoder(str(folder), device="cpu", max_length=64)
    expected = reference.predict([(QUERY, document) for document in DOCUMENTS]).tolist()
    found = {hit["index"]: hit["score"] for hit in answer["results"]}
    # The service may use bfloat16 on this machine.
    assert found == pytest.approx(dict(enumerate(expected)), abs=2e-2)
