"""docs/api.md: its requests work as written, and its table of errors is correct."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from serve_app import errors
from serve_app.api.dialects import NATIVE, ROUTES, Wire
from serve_app.api.dialects.nim import NIM
from serve_app.api.dialects.score import SCORE
from serve_app.api.dialects.tei import TEI
from serve_app.api.dialects.voyage import VOYAGE
from tests.programs import need

TEXT = (Path(__file__).parent.parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
ANSWERS = ("results", "data", "rankings", "answers", "model_id")
# The rows of its table of errors, in order.
ROWS: list[errors.RerankError] = [
    errors.MalformedBody("x"),
    errors.BadRequest("x"),
    errors.InvalidRequest("x"),
    errors.TooManyDocuments("x"),
    errors.DocumentTooLong("x"),
    errors.UnknownModel("x"),
    errors.BodyTooSlow("x"),
    errors.BodyTooLarge("x"),
    errors.UnsupportedEncoding("x"),
    errors.Overloaded("x"),
    errors.QueueTimeout("x"),
    errors.ScoringFailed("x"),
    errors.ModelUnavailable("x"),
    errors.DeadlineExceeded("x"),
    errors.UpstreamRefused("x"),
    errors.UpstreamRateLimited("x"),
    errors.UpstreamFailed("x"),
    errors.UpstreamUnavailable("x"),
    errors.UpstreamTimeout("x"),
]
COLUMNS: list[Wire] = [NATIVE, VOYAGE, TEI, SCORE, NIM]


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_its_requests_work(url: str, command: str) -> None:
    need("curl")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace("http://127.0.0.1:8000", url)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, list) or any(answer.get(name) for name in ANSWERS), answer
    for entry in answer.get("answers", ()) if isinstance(answer, dict) else ():
        assert "results" in entry


def test_every_scoring_route_has_an_example_request() -> None:
    paths = {re.sub(r"/v1/retrieval/.*", "/v1/retrieval", path) for path in ROUTES}
    paths -= {"/vllm/rerank"}  # an alias
    assert all(any(f":8000{path}" in command for command in COMMANDS) for path in paths)


def test_its_table_of_errors_matches_the_dialects() -> None:
    table = TEXT[TEXT.index("## Errors") :]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    for error, row in zip(ROWS, rows[1:], strict=True):
        for dialect, cell in zip(COLUMNS, row[1:], strict=True):
            if cell.strip():
                assert int(cell.split()[0]) == dialect.status(error), (row, dialect.name)
            if "`" in cell:
                assert cell.split("`")[1] in TEI.error(error, "i").decode()
