"""The application as Ray users run it: by handle from another application, and by `serve run`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.e2e.conftest import environment, free_port

ROOT = Path(__file__).parent.parent.parent


def test_another_application_gets_by_handle_what_http_gives(tmp_path: Path) -> None:
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
    assert by_http[0][0] == 1
    assert (seen["handle"]["model"], seen["http"]["model"], seen["other"]["model"]) == (
        "one",
        "one",
        "two",
    )
    assert len(seen["handle"]["problems"]) == 2


def test_serve_run_with_the_config_file(tmp_path: Path) -> None:
    port = free_port()
    config = (ROOT / "serve_config.yaml").read_text().replace("port: 8000", f"port: {port}")
    (tmp_path / "serve_config.yaml").write_text(config)
    command = [
        str(Path(sys.executable).parent / "serve"),
        "run",
        str(tmp_path / "serve_config.yaml"),
    ]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.3)
        body = {"query": "what do pandas eat", "documents": ["Stocks fell.", "Bamboo, for pandas."]}
        answer = httpx.post(f"http://127.0.0.1:{port}/rerank", json=body, timeout=60)
        assert answer.json()["results"][0]["index"] == 1
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
