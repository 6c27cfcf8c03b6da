"""The code in the client's documentation works as written with a running service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Service, environment

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def run(code: str, folder: Path) -> str:
    """Run a script in `folder`; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(PYTHONPATH=str(ROOT)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(page: str, service: Service) -> str:
    """Join the code blocks of a page, as a reader would run them."""
    text = (ROOT / "docs" / page).read_text().replace("http://127.0.0.1:8000", service.url)
    return "\n".join(BLOCK.findall(text))


def test_the_client_page_works(service: Service, tmp_path: Path) -> None:
    code = blocks("client.md", service) + (
        "\nimport asyncio; asyncio.run(search())"
        "\nprint(found.requests, len(frame), len(scores), array.shape, tokens > 0, one)"
    )
    lines = run(code, tmp_path).splitlines()
    assert lines[0] == "2 of 3 documents for 'how do pandas eat?', by all-MiniLM-L6-v2-maxsim"
    assert lines[2].split()[:2] == ["1", "0"]
    assert any(line.startswith("400 invalid_request") for line in lines)
    assert lines[-2] == "Bamboo, with teeth."
    assert lines[-1].startswith("2 3 2 (2,) True 0.")
    exported = json.loads((tmp_path / "usage.jsonl").read_text())
    assert (exported["tool"], exported["requests"]) == ("search", 1)
    assert exported["tokens"] > 0


def test_the_agents_page_works(service: Service, tmp_path: Path) -> None:
    lines = run(blocks("agents.md", service), tmp_path).splitlines()
    assert json.loads(lines[0])["results"][0]["index"] == 1
    assert json.loads(lines[1])["results"][0]["text"] == "Bamboo, with teeth."
    assert "'index': 1" in lines[2]


def test_the_frameworks_page_works(service: Service, tmp_path: Path) -> None:
    lines = run(blocks("frameworks.md", service), tmp_path).splitlines()
    firsts = [lines[0], lines[2], lines[4]]
    assert all("Pandas eat bamboo." in line for line in firsts), lines
    assert lines[6].startswith("Pandas eat bamboo. [1]") or "teeth. [1]" in lines[6]
    assert "['zoo'," in lines[6]
    assert "Pandas eat bamboo." in lines[7]
    assert lines[8] == "zoo"


@pytest.mark.slow
def test_the_rag_example_answers_from_real_text(service: Service) -> None:
    question = "how do I shorten a text to fit a width?"
    done = subprocess.run(
        [sys.executable, "-m", "examples.rag", question, "--url", service.url],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "textwrap.shorten" in done.stdout.splitlines()[-4], done.stdout
