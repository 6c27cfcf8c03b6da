"""Small labelled datasets in every format that `rerank eval` reads, and a fake service."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.local_server import QuietHandler, serving

TOPICS = ("bamboo", "granite", "violin", "harbour", "saffron", "glacier", "lantern", "walnut")
Order = Callable[[str, list[str]], list[int]]


def query(topic: str) -> str:
    return f"Explain what {topic} is and where it comes from."


def document(topic: str) -> str:
    return f"Our guides explain the {topic} of the valley."


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def beir(folder: Path) -> Path:
    """Write one query per topic; its own document has relevance 2, the next topic's 1."""
    (folder / "qrels").mkdir(parents=True)
    jsonl(
        folder / "corpus.jsonl",
        [{"_id": f"d-{t}", "title": t.title(), "text": document(t)} for t in TOPICS],
    )
    jsonl(folder / "queries.jsonl", [{"_id": f"q-{t}", "text": query(t)} for t in TOPICS])
    rows = ["query-id\tcorpus-id\tscore"]
    for topic, other in zip(TOPICS, (*TOPICS[1:], TOPICS[0]), strict=True):
        rows += [f"q-{topic}\td-{topic}\t2", f"q-{topic}\td-{other}\t1"]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n")
    return folder


def trec(folder: Path) -> dict[str, Path]:
    """Write topics.tsv, collection.tsv, qrels.txt, first.run and second.run to a folder.

    The relevant document is second in first.run, and first in second.run.
    """
    folder.mkdir(exist_ok=True)
    parts = {
        "topics.tsv": [f"q-{t}\t{query(t)}" for t in TOPICS],
        "collection.tsv": [f"d-{t}\t{document(t)}" for t in TOPICS],
        "qrels.txt": [f"q-{t} 0 d-{t} 1" for t in TOPICS],
        "first.run": run_lines("first", lambda topic: [_other(topic), topic]),
        "second.run": run_lines("second", lambda topic: [topic, _other(topic)]),
    }
    for name, lines in parts.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    return {name: folder / name for name in parts}


def run_lines(tag: str, order: Callable[[str], list[str]]) -> list[str]:
    return [
        f"q-{topic} Q0 d-{name} {rank} {10 - rank} {tag}"
        for topic in TOPICS
        for rank, name in enumerate(order(topic), 1)
    ]


def _other(topic: str) -> str:
    return TOPICS[(TOPICS.index(topic) + 3) % len(TOPICS)]


@contextmanager
def service(order: Order, status: int = 200, key: str | None = None) -> Iterator[str]:
    """Serve a /rerank route that ranks by `order`, and requires `key` if it is set."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            ranked = order(body["query"], body["documents"])
            hits = [{"index": i, "score": 1.0 - rank / 100} for rank, i in enumerate(ranked)]
            answer = {
                "results": hits,
                "model": body.get("model", "served"),
                "usage": {"total_tokens": 7 * len(hits)},
            }
            allowed = key is None or self.headers["authorization"] == f"Bearer {key}"
            self.send(status if allowed else 401, json.dumps(answer).encode())

    with serving(Handler) as url:
        yield url


def backwards(query: str, documents: list[str]) -> list[int]:
    return list(reversed(range(len(documents))))


def oracle(query: str, documents: list[str]) -> list[int]:
    topic = next((t for t in TOPICS if t in query), "none")
    return sorted(range(len(documents)), key=lambda i: topic not in documents[i].lower())


def quiet(text: str) -> None:
    return None
