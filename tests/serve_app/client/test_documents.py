"""Kinds of documents, and results as text, dicts and frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from serve_app.client import Reranker
from serve_app.client.documents import parse
from serve_app.errors import InvalidRequest
from tests.serve_app.fakes import FakeFrontend

PIXEL = "data:image/png;base64,iVBORw0KGgo="


@dataclass
class Page:
    page_content: str
    metadata: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("document", "text_field", "text", "metadata"),
    [
        ("plain", None, "plain", {}),
        ({"text": "t", "id": 1}, None, "t", {"id": 1}),
        ({"content": "c", "text": None}, None, "c", {"text": None}),
        ({"body": "b", "text": "t"}, "body", "b", {"text": "t"}),
        (Page("p", {"source": "s"}), None, "p", {"source": "s"}),
        (SimpleNamespace(content="c", meta={"m": 1}), None, "c", {"m": 1}),
        (SimpleNamespace(abstract="a"), "abstract", "a", {}),
        ({"a": "x", "b": "y"}, lambda d: f"{d['a']} {d['b']}", "x y", {"a": "x", "b": "y"}),
    ],
)
def test_text_and_metadata_of_each_kind(
    document: Any, text_field: Any, text: str, metadata: Any
) -> None:
    found = parse(document, 0, text_field)
    assert (found.payload, found.text, found.metadata) == (text, text, metadata)


def test_only_image_and_text_are_sent() -> None:
    found = parse({"image": PIXEL, "text": "a panda", "id": 3}, 0)
    assert found.payload == {"image": PIXEL, "text": "a panda"}
    assert parse({"image": PIXEL}, 0).payload == {"image": PIXEL}


@pytest.mark.parametrize("document", [{"title": "t"}, {"text": 5}, 7, None, Page(3)])  # type: ignore[arg-type]
def test_a_document_without_text_is_rejected(document: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"documents\[4\]"):
        parse(document, 4)


def test_hits_hold_the_original_documents(reranker: Reranker) -> None:
    given = [Page("stocks fell"), Page("pandas eat bamboo", {"source": "zoo", "score": 9})]
    found = reranker.rerank("pandas eat", given)
    assert found.documents == [given[1], given[0]]
    assert found[0].document is given[1]
    assert found.to_dicts()[0] == {
        "rank": 1,
        "index": 1,
        "score": 2.0,
        "text": "pandas eat bamboo",
        "metadata": {"source": "zoo", "score": 9},
    }


def test_results_convert_to_a_frame(reranker: Reranker) -> None:
    given = [Page("stocks fell"), Page("pandas eat bamboo", {"source": "zoo", "score": 9})]
    frame = reranker.rerank("pandas eat", given).to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["index", "score", "text", "source", "meta_score"]
    assert (frame.index.name, frame.index.tolist()) == ("rank", [1, 2])
    assert frame.loc[1, ["index", "score", "source"]].tolist() == [1, 2.0, "zoo"]
    empty = reranker.rerank("q", []).to_pandas()
    assert (len(empty), list(empty.columns)) == (0, ["index", "score", "text"])


def test_results_print_as_a_table(reranker: Reranker, front: FakeFrontend) -> None:
    texts = [f"panda number {i}\n{'x' * 500}" for i in range(25)]
    lines = str(reranker.rerank("panda 7", texts)).splitlines()
    assert lines[0] == "25 of 25 documents for 'panda 7', by words"
    assert lines[2].split()[:3] == ["1", "7", "2.0000"]
    assert len(lines[2]) < 100
    assert lines[-1] == "… and 5 more"
    long = "word " * 100
    assert "\nwarning: 1 " in str(reranker.rerank("word", [long])), "the document is truncated"
    assert front.backend.rows > 0
