"""The command-line arguments of `rerank eval`; nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Measure ranking quality: compare models, a running service, BM25 and existing rankings on the same
candidates, with a paired significance test. The data can be docstrings of installed packages
(the default), a BEIR folder, TREC files or JSONL, plain or gzipped. See docs/evaluation.md for
examples. Without --model, --url, --bm25 or --compare-run, the service running on this machine is
measured. If it requires an API key, set RERANK_API_KEY."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments to the command's parser."""
    parser.description = DESCRIPTION
    _data(parser.add_argument_group("data"))
    _compared(parser.add_argument_group("rankers to compare"))
    _results(parser.add_argument_group("results"))


def _data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--beir",
        type=Path,
        metavar="FOLDER",
        help="BEIR folder with corpus.jsonl, queries.jsonl and qrels/",
    )
    group.add_argument("--split", default="test", help="split of the BEIR folder (default: test)")
    group.add_argument(
        "--queries",
        type=_queries,
        metavar="FILE|N",
        help="queries with ids, JSONL or tab-separated; a number means --limit",
    )
    group.add_argument(
        "--corpus", type=Path, metavar="FILE", help="documents with ids, JSONL or tab-separated"
    )
    group.add_argument(
        "--qrels", type=Path, metavar="FILE", help="relevance judgements in TREC format"
    )
    group.add_argument(
        "--run",
        type=Path,
        metavar="FILE",
        dest="candidates_run",
        help="TREC run that provides the candidates (default: BM25 finds them)",
    )
    group.add_argument(
        "--jsonl",
        type=Path,
        metavar="FILE",
        help="JSONL file with a query and its labelled documents on each line",
    )
    group.add_argument(
        "--limit",
        type=_positive,
        metavar="N",
        help="maximum number of queries, sampled at random (default: all; docstrings: 500)",
    )
    group.add_argument(
        "--candidates",
        type=_positive,
        metavar="N",
        help="candidates per query (default: 100; docstrings: 50; JSONL: all)",
    )
    group.add_argument(
        "--corpus-size",
        type=_positive,
        default=2500,
        metavar="N",
        help="number of docstrings in the corpus (default: 2500)",
    )
    group.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def _compared(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        action="append",
        default=[],
        dest="compared",
        metavar="[NAME=]MODEL",
        help="model to run in this process: `embedded`, a Hugging Face name, a folder, or a name "
        "from RERANKER_MODELS; with --url, a model of that service. Can be repeated",
    )
    group.add_argument("--url", help="URL of a running service")
    group.add_argument(
        "--concurrency",
        type=_positive,
        default=4,
        help="concurrent requests to the service (default: 4)",
    )
    group.add_argument(
        "--bm25",
        action="store_true",
        help="also rank the candidates by BM25, if BM25 did not find them",
    )
    group.add_argument(
        "--compare-run",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="TREC run to measure as is. Can be repeated",
    )


def _results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="metrics (default: nDCG@10 RR@10 R@10 AP P@1); the first is tested and plotted",
    )
    group.add_argument(
        "--baseline", metavar="NAME", help="row to compare the others with (default: the first)"
    )
    group.add_argument(
        "--test",
        choices=("randomization", "t-test"),
        default="randomization",
        help="paired significance test (default: randomization)",
    )
    group.add_argument("--json", action="store_true", help="print JSON instead of tables")
    group.add_argument("--output", type=Path, metavar="FILE", help="write the results as JSON")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")
    group.add_argument(
        "--plot", type=Path, metavar="FILE", help="plot quality against cost (.png, .svg or .pdf)"
    )
    group.add_argument(
        "--write-run", type=Path, metavar="FOLDER", help="write a TREC run file for each row"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got {text!r}")
    return int(text)


def _queries(text: str) -> Path | int:
    return _positive(text) if text.isdecimal() else Path(text)
