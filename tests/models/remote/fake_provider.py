"""A local server that answers as the provider's documentation describes.

A document's score is the number at the start of its text, so tests can match scores to documents.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests import local_server

Json = dict[str, Any]
Answer = Callable[[Json], Any]


def value_of(text: str) -> float:
    return float(text.split()[0])


def _best_first(scores: list[float]) -> list[tuple[int, float]]:
    return sorted(enumerate(scores), key=lambda pair: -pair[1])


def _results(texts: list[str], index: str, score: str) -> list[Json]:
    return [{index: i, score: s} for i, s in _best_first([value_of(t) for t in texts])]


def cohere(body: Json) -> Json:
    assert set(body) <= {"model", "query", "documents", "top_n", "max_tokens_per_doc"}
    return {
        "id": "07734bd2",
        "results": _results(body["documents"], "index", "relevance_score"),
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": 30, "output_tokens": 4},
        },
    }


def common(body: Json) -> Json:
    assert set(body) <= {"model", "query", "documents", "top_n", "return_documents"}
    assert body["return_documents"] is False
    return {
        "model": body.get("model"),
        "results": _results(body["documents"], "index", "relevance_score"),
        "usage": {"total_tokens": 34},
    }


def siliconflow(body: Json) -> Json:
    results = common(body)["results"]
    return {"id": "1", "results": results, "tokens": {"input_tokens": 30, "output_tokens": 4}}


def jina(body: Json) -> Json:
    documents = [d if isinstance(d, str) else d.get("text", "0.5") for d in body["documents"]]
    return common({**body, "documents": documents})


def voyage(body: Json) -> Json:
    assert set(body) == {"model", "query", "documents", "top_k", "truncation"}
    return {
        "object": "list",
        "data": _results(body["documents"], "index", "relevance_score"),
        "model": body["model"],
        "usage": {"total_tokens": 34},
    }


def tei(body: Json) -> Any:
    assert body["raw_scores"] is False
    assert body["truncate"] is True
    assert len(body["texts"]) <= 32
    return _results(body["texts"], "index", "score")


def nvidia(body: Json) -> Json:
    assert set(body) == {"model", "query", "passages", "truncate"}
    assert set(body["query"]) == {"text"}
    rankings = _results([p["text"] for p in body["passages"]], "index", "logit")
    return {"rankings": rankings, "usage": {"prompt_tokens": 34, "total_tokens": 34}}


def dashscope(body: Json) -> Json:
    assert set(body) == {"model", "input", "parameters"}
    results = _results(body["input"]["documents"], "index", "relevance_score")
    return {"output": {"results": results}, "usage": {"total_tokens": 34}, "request_id": "r"}


def bedrock(body: Json) -> Json:
    """Two results per page."""
    configuration = body["rerankingConfiguration"]["bedrockRerankingConfiguration"]
    assert configuration["modelConfiguration"]["modelArn"].startswith("arn:aws:bedrock:eu-west-1::")
    assert body["queries"][0]["textQuery"]["text"]
    texts = [s["inlineDocumentSource"]["textDocument"]["text"] for s in body["sources"]]
    results = _results(texts, "index", "relevanceScore")
    start = int(body.get("nextToken", 0))
    page: Json = {"results": results[start : start + 2]}
    return {**page, "nextToken": str(start + 2)} if start + 2 < len(results) else page


def google(body: Json) -> Json:
    assert len(body["records"]) <= 200
    ids = [record["id"] for record in body["records"]]
    scores = [value_of(record["content"]) for record in body["records"]]
    return {"records": [{"id": ids[i], "score": s} for i, s in _best_first(scores)]}


def pinecone(body: Json) -> Json:
    assert body["rank_fields"] == ["text"]
    data = _results([d["text"] for d in body["documents"]], "index", "score")
    return {"model": body["model"], "data": data, "usage": {"rerank_units": 1}}


def mixedbread(body: Json) -> Json:
    data = _results(body["input"], "index", "score")
    usage = {"prompt_tokens": 34, "total_tokens": 34, "completion_tokens": 0}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


def embeddings(body: Json) -> Json:
    """The query lies on an axis; a document's cosine with it is the number at its start."""

    def vector(text: str) -> list[float]:
        try:
            cosine = value_of(text)
        except ValueError:
            return [2.0, 0.0]
        return [cosine, (1 - cosine**2) ** 0.5]

    data = [{"index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
    return {"object": "list", "data": data, "usage": {"prompt_tokens": 34, "total_tokens": 34}}


@dataclass
class Received:
    """A request that the server received."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class Reply:
    """A reply to send instead of the documented one."""

    status: int = 200
    content: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass
class Provider:
    """The fake server: sends `replies` first, then `always` if set, else the result of `answer`."""

    url: str
    answer: Answer
    received: list[Received] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    always: Reply | None = None
    concurrent: int = 0
    max_concurrent: int = 0


@contextmanager
def serving(answer: Answer, *, delay_s: float = 0.0) -> Iterator[Provider]:
    provider = Provider("", answer)

    class Handler(local_server.QuietHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            provider.concurrent += 1
            provider.max_concurrent = max(provider.max_concurrent, provider.concurrent)
            try:
                self._reply(content)
            finally:
                provider.concurrent -= 1

        def _reply(self, content: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = json.loads(content) if content else None
            provider.received.append(Received(self.path, headers, body))
            if urlsplit(self.path).path == "/oauth/2.0/token":
                token = {"access_token": "24.token", "expires_in": 2592000}
                self.send(200, json.dumps(token).encode(), content_type="application/json")
                return
            reply = provider.replies.pop(0) if provider.replies else provider.always
            if reply is None:
                payload = json.dumps(provider.answer(body)).encode()
                reply = Reply(200, payload, {"content_type": "application/json"}, delay_s)
            time.sleep(reply.delay_s)
            try:
                self.send(reply.status, reply.content, **reply.headers)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    with local_server.serving(Handler) as url:
        provider.url = url
        yield provider


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"content_type": "application/json"} | headers)
