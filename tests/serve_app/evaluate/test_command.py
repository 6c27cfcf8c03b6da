"""`rerank eval` from the command line, on small data and a fake service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from serve_app.cli.main import main
from serve_app.evaluate import measures
from serve_app.evaluate.collection import beir, read
from serve_app.evaluate.dataset import EvalError
from serve_app.evaluate.rankers import Ranking, Source
from serve_app.evaluate.report import as_markdown
from serve_app.evaluate.run import evaluate, write_runs
from serve_app.evaluate.trec import read_run
from tests.serve_app.evaluate import data
from tests.serve_app.evaluate.data import TOPICS, backwards, oracle, service

Json = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with TREC files and a BEIR folder, `zoo`."""
    monkeypatch.chdir(tmp_path)
    data.trec(tmp_path)
    data.beir(tmp_path / "zoo")
    return tmp_path


def _eval(*arguments: str) -> int:
    return main(["eval", *arguments])


def _report(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Json, Json]:
    """Return the printed JSON, and its rows by name."""
    assert _eval(*arguments, "--json") == 0, capsys.readouterr().err
    report = json.loads(capsys.readouterr().out)
    return report, {row["name"]: row for row in report["rows"]}


def _error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert _eval(*arguments) == 1
    return capsys.readouterr().err


TREC = (
    *("--queries", "topics.tsv", "--corpus", "collection.tsv"),
    *("--qrels", "qrels.txt", "--run", "first.run"),
)


def test_a_service_is_compared_with_the_run_it_reranks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(oracle) as url:
        report, rows = _report(capsys, *TREC, "--url", url)
    assert (report["dataset"], report["queries"], report["documents"]) == ("qrels.txt", 8, 8)
    assert list(rows) == ["first", "served"]
    assert rows["first"]["measures"]["RR@10"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert rows["first"]["ms_per_query"] is rows["first"]["tokens"] is None
    assert rows["served"]["measures"]["RR@10"]["mean"] == 1.0
    assert (rows["served"]["pairs"], rows["served"]["tokens"]) == (16, 7 * 16)
    assert rows["served"]["ms_per_query"] > 0
    found = next(c for c in report["comparisons"] if c["measure"] == "RR@10")
    assert (found["baseline"], found["difference"], found["wins"]) == ("first", 0.5, 8)
    # All eight queries won: two of the 2^8 sign combinations are as extreme.
    assert found["p"] == found["p_holm"] == pytest.approx(2 / 2**8)


def test_several_models_of_a_service_and_run_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ("--compare-run", "second.run", "--compare-run", "again=second.run", "--bm25")
    test = ("--baseline", "second", "--test", "t-test")
    with service(backwards) as url:
        models = ("--url", url, "--model", "one", "--model", "other=two")
        report, rows = _report(capsys, *TREC, *runs, *models, *test)
    assert list(rows) == ["first", "second", "again", "BM25", "one", "other"]
    means = {name: row["measures"]["P@1"]["mean"] for name, row in rows.items()}
    assert means == {"first": 0, "second": 1, "again": 1, "BM25": 1, "one": 1, "other": 1}
    assert {c["baseline"] for c in report["comparisons"]} == {"second"}
    assert len(report["comparisons"]) == 5 * len(report["measures"])
    assert report["test"]["name"] == "t-test"


def test_unordered_samples_are_compared_with_bm25(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {
            "query": data.query(topic),
            "positive": [data.document(topic)],
            "negative": [data.document(t) for t in TOPICS if t != topic],
        }
        for topic in TOPICS
    ]
    data.jsonl(folder / "samples.jsonl.gz", rows)
    with service(backwards) as url:
        arguments = ("--jsonl", "samples.jsonl.gz", "--url", url, "--metrics", "P@1", "MRR")
        report, found = _report(capsys, *arguments, "--limit", "6")
    assert report["queries"] == 6
    assert report["measures"] == ["P@1", "RR"]
    assert list(found) == ["BM25", "served"]
    assert found["BM25"]["measures"]["P@1"]["mean"] == 1.0
    assert found["served"]["measures"]["P@1"]["mean"] < 1.0


def test_run_files_alone_need_no_texts_and_no_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = ("--compare-run", "first.run", "--compare-run", "second.run")
    assert _eval("--qrels", "qrels.txt", *runs) == 0
    output = capsys.readouterr().out
    assert "qrels.txt: 8 queries " in output
    assert "candidate" not in output
    assert "compared with first" in output
    assert "ms/query" not in output
    assert "8/0/0" in output
    assert "ranking needs texts" in _error(capsys, "--qrels", "qrels.txt", "--bm25")


def test_every_output_file_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with service(oracle) as url:
        arguments = ("--beir", "zoo", "--candidates", "3", "--url", url, "--model", "org/a model")
        outputs = ("--output", "r.json", "--markdown", "r.md", "--write-run", "runs")
        report, _ = _report(capsys, *arguments, *outputs, "--plot", "r.png")
        assert _eval(*arguments, "--plot", "r.svg") == 0
    assert json.loads((folder / "r.json").read_text()) == report
    table = (folder / "r.md").read_text().splitlines()
    assert table[0] == "**zoo (test): 8 queries, 8 documents, up to 3 candidates each**"
    assert table[2].startswith("| ranker | nDCG@10 | 95% interval | RR@10 |")
    assert len({line.count("|") for line in table if line.startswith("| ranker | nDCG")}) == 1
    assert sorted(path.name for path in (folder / "runs").iterdir()) == [
        "BM25.run",
        "org-a-model.run",
    ]
    written = read_run(folder / "runs" / "org-a-model.run", {f"q-{t}" for t in TOPICS})
    assert [ranked[0][0] for ranked in written.run.values()] == [f"d-{t}" for t in TOPICS]
    assert (folder / "r.png").read_bytes().startswith(b"\x89PNG")
    picture = (folder / "r.svg").read_text()
    assert "<svg" in picture
    assert picture.count("<path") > 10
    assert "org/a model" in capsys.readouterr().out


def test_a_written_run_has_the_same_quality_as_its_ranker(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(backwards) as url:
        _, rows = _report(capsys, "--beir", "zoo", "--url", url, "--write-run", "runs")
    runs = ("--compare-run", "x=runs/served.run", "--compare-run", "y=runs/BM25.run")
    _, again = _report(capsys, "--qrels", "zoo/qrels/test.tsv", *runs)
    assert again["x"]["measures"] == rows["served"]["measures"]
    assert again["y"]["measures"] == rows["BM25"]["measures"]


def test_the_api_key_is_read_from_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(oracle, key="k") as url:
        assert "returned 401" in _error(capsys, "--beir", "zoo", "--url", url)
        monkeypatch.setenv("RERANK_API_KEY", "k")
        assert _eval("--beir", "zoo", "--url", url) == 0


def test_a_missing_service_is_reported(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with service(oracle) as url:
        pass  # the port is closed again
    assert f"no service at {url}" in _error(capsys, "--beir", "zoo", "--url", url)
    port = url.rpartition(":")[2]
    # Without data or model options, this machine's service is contacted before reading any data.
    error = _error(capsys, "--port", port)
    assert f"no service at http://127.0.0.1:{port}" in error
    assert "start it with `rerank up`, or use --model" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--beir", "zoo", "--jsonl", "a"), "--beir and --jsonl cannot be combined"),
        (("--beir", "zoo", "--qrels", "qrels.txt"), "--beir and --qrels cannot be combined"),
        (("--qrels", "qrels.txt", "--run", "a"), "--qrels also requires --queries and --corpus"),
        (("--run", "first.run"), "--run requires --beir"),
        (("--beir", "zoo", "--baseline", "none"), "no row is named 'none' (--baseline)"),
        (("--beir", "zoo", "--compare-run", "BM25=first.run"), "named 'BM25'"),
        (("--beir", "zoo", "--metrics", "Fun@3"), "'Fun@3' is not an available metric"),
        (("--beir", "zoo", "--plot", "a.gif"), "the file name of a plot must end in"),
        (("--beir", "zoo", "--plot", "none/a.png"), "the folder of none/a.png does not exist"),
        (("--beir", "zoo", "--markdown", "zoo"), "zoo is a folder"),
        (("--beir", "zoo", "--write-run", "qrels.txt"), "qrels.txt is a file"),
        (("--beir", "zoo", "--compare-run", "lost.run"), "cannot read lost.run"),
        (("--beir", "zoo", "--split", "dev"), "dev.tsv nor dev.tsv.gz exists"),
        (("--beir", "zoo", "--model", "./none"), "'./none' does not exist"),
    ],
)
def test_invalid_options_are_rejected(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: Sequence[str], message: str
) -> None:
    # With a run file to compare, no service is contacted.
    assert message in _error(capsys, *arguments, "--compare-run", "given=first.run")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"provider": "cohere", "model": "m"}, "other is scored by a provider"),
        ({"pipeline": [{"rerank": "local"}]}, "other is a pipeline"),
    ],
)
def test_a_model_that_only_the_service_can_score_is_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    entry: Json,
    message: str,
) -> None:
    models = [{"name": "local"}, {"name": "other", **entry}]
    monkeypatch.setenv("RERANKER_MODELS", json.dumps(models))
    assert message in _error(capsys, "--beir", "zoo", "--model", "other")


def test_numbers_must_be_positive(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (("--limit", "0"), ("--candidates", "-1"), ("--queries", "0")):
        with pytest.raises(SystemExit):
            _eval(*arguments)
        assert "expected a positive integer" in capsys.readouterr().err


class Halves:
    """A custom two-stage ranker: the first stage keeps half, the second scores those."""

    name, concurrency = "halves", 2

    def __init__(self) -> None:
        self.closed = False

    def rank(self, query: str, documents: Sequence[str]) -> Ranking:
        kept = oracle(query, list(documents))[: len(documents) // 2]
        return Ranking([(i, -float(n)) for n, i in enumerate(kept)], len(documents) + len(kept))

    def close(self) -> None:
        self.closed = True


class Broken(Halves):
    name = "broken"

    def rank(self, query: str, documents: Sequence[str]) -> Ranking:
        raise EvalError("out of order")


class Silent:
    def begin(self, name: str, queries: int) -> None: ...

    def advance(self) -> None: ...

    def failed(self, name: str, reason: str) -> None: ...


def test_custom_rankers_and_one_that_fails(folder: Path, tmp_path: Path) -> None:
    dataset = read(
        beir(folder / "zoo", "test", None), depth=4, limit=None, seed=0, status=lambda text: None
    )
    halves, broken = Halves(), Broken()

    def run(sources: list[Source], baseline: str | None = None) -> Any:
        return evaluate(
            dataset,
            sources,
            {},
            measures.parse(["P@1", "R@10"]),
            baseline=baseline,
            test="randomization",
            seed=0,
            progress=Silent(),
        )

    both = [Source("broken", lambda: broken), Source("halves", lambda: halves)]
    report = run(both)
    assert report.failures == {"broken": "out of order"}
    assert [system.name for system in report.systems] == ["BM25", "halves"]
    system = report.systems[1]
    assert all(len(ranked) == 2 for ranked in system.run.values())
    assert (system.mean("P@1"), system.mean("R@10") <= 1.0) == (1.0, True)
    assert (system.cost.pairs, system.cost.tokens) == (8 * 6, None)
    assert halves.closed
    assert broken.closed
    assert "- broken failed: out of order" in as_markdown(report)
    assert run(both, "broken").comparisons == ()
    assert [path.name for path in write_runs(report, tmp_path / "r")] == ["BM25.run", "halves.run"]
    with pytest.raises(EvalError, match="out of order"):
        run(both[:1])
