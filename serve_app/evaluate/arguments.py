"""What `rerank eval` takes; nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path

DESCRIPTION = """\
Measure ranking quality: models, a running service, BM25 and given rankings, side by side on
the same candidates, with a paired significance test. The data: docstrings of installed packages
(default), a BEIR folder, TREC files, or JSONL; plain or gzip. docs/evaluation.md has examples.
Without --model, --url, --bm25 and --compare-run this machine's running service is measured; its
key, if it needs one, is read from RERANK_API_KEY."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments to the command's parser."""
    _data(parser.add_argument_group("data"))
    _compared(parser.add_argument_group("what is compared"))
    _results(parser.add_argument_group("results"))


def _data(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--beir", type=Path, metavar="FOLDER", help="corpus, queries and qrels/")
    group.add_argument("--split", default="test", help="of the BEIR folder (default: test)")
    group.add_argument(
        "--queries",
        type=_queries,
        metavar="FILE|N",
        help="queries by id, JSONL or tab-separated; a number is --limit",
    )
    group.add_argument("--corpus", type=Path, metavar="FILE", help="documents by id, likewise")
    group.add_argument("--qrels", type=Path, metavar="FILE", help="TREC's judgements")
    group.add_argument(
        "--run", type=Path, metavar="FILE", dest="candidates_run", help="candidates: a TREC run"
    )
    group.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="a line: a query and labelled documents"
    )
    group.add_argument(
        "--limit", type=_positive, metavar="N", help="queries at most, by chance (docstrings: 500)"
    )
    group.add_argument(
        "--candidates",
        type=_positive,
        metavar="N",
        help="documents a query (default: 100; docstrings 50; JSONL all)",
    )
    group.add_argument(
        "--corpus-size", type=_positive, default=2500, metavar="N", help="docstrings (default 2500)"
    )
    group.add_argument("--seed", type=int, default=0, help="of every choice by chance (default 0)")


def _compared(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        action="append",
        default=[],
        dest="compared",
        metavar="[NAME=]MODEL",
        help="a model in this process: `embedded`, a Hugging Face name, a folder, or one of "
        "RERANKER_MODELS; with --url a model of the service. Repeat it for several",
    )
    group.add_argument("--url", help="a running service")
    group.add_argument(
        "--concurrency", type=_positive, default=4, help="requests at once (default 4)"
    )
    group.add_argument(
        "--bm25", action="store_true", help="BM25 beside the others, where it found no candidates"
    )
    group.add_argument(
        "--compare-run",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="a TREC run as it is. Repeat it for several",
    )


def _results(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="default: nDCG@10 RR@10 R@10 AP P@1; the first is tested and plotted",
    )
    group.add_argument(
        "--baseline", metavar="NAME", help="row to compare with (default: the first)"
    )
    group.add_argument(
        "--test",
        choices=("randomization", "t-test"),
        default="randomization",
        help="of paired queries (default: randomization)",
    )
    group.add_argument("--json", action="store_true", help="print JSON instead of tables")
    group.add_argument("--output", type=Path, metavar="FILE", help="write the JSON here too")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    group.add_argument("--plot", type=Path, metavar="FILE", help="quality by cost: png, svg, pdf")
    group.add_argument(
        "--write-run", type=Path, metavar="FOLDER", help="write a TREC run for each row here"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is wanted, not {text!r}")
    return int(text)


def _queries(text: str) -> Path | int:
    return _positive(text) if text.isdecimal() else Path(text)
