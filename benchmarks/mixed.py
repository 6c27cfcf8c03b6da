"""Good and bad requests at the same time: wrong scores, server errors, memory, descriptors.

Clients send good requests in all dialects to `rerank up`, whose scores are compared to those that
the same model computed in this process, and bad ones: mutated bodies, wrong types and encodings,
odd headers, clients that disconnect or send slowly, expired deadlines.
Run: `make bench NAME=mixed`. Prints Markdown tables: responses by kind of request and status, with
examples of server errors and wrong scores, and the memory, descriptors and threads of each process
of the service after a tenth of the time, at half time, and after the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import os
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import zstandard

from benchmarks import raw_http, servers, service_processes
from benchmarks.dialects import DIALECTS, Dialect
from benchmarks.raw_http import Request, Response
from benchmarks.service_processes import MARK, Figures
from benchmarks.shapes import WORDS
from models.registry import load as load_model
from models.types import Activation, relevance
from serve_app.settings import load

QUERIES, TEXTS = 20, 200
MAX_DOCUMENTS = 20
GOOD_SHARE = 0.6
TIMEOUT_S = 60.0
SETTLE_S = 60.0
# The largest difference between two computations of a score in different micro-batches.
TOLERANCE = 0.01
# Of each kind of request, and of each header in it.
EXAMPLES = 2
COLUMNS = ("2xx", "4xx", "overload", "deadline", "5xx", "no response", "left")
GOOD, DEADLINE, SLOW = "good", "expired deadline", "slow"
LEFT = "left"
# Scores are computed again after some seconds, so that requests find the cache in every state;
# small caches are full before the first figures of memory.
ENV = {
    "CACHE_TTL_SECONDS": "5",
    "CACHE_MAX_BYTES": str(2**22),
    "RERANKER_REPRESENTATION_CACHE_BYTES": str(2**22),
    "LOG_LEVEL": "WARNING",
}
Sample = Mapping[int, tuple[str, Figures]]


@dataclass(frozen=True)
class Reference:
    """The raw scores of every query with every text."""

    queries: Sequence[str]
    texts: Sequence[str]
    logits: Sequence[Sequence[float]]
    activation: Activation

    def request(
        self, chance: random.Random, dialect: Dialect, most: int = MAX_DOCUMENTS
    ) -> tuple[Request, list[float]]:
        """Return a request with at most `most` of the texts, and their scores."""
        query = chance.randrange(len(self.queries))
        places = chance.sample(range(len(self.texts)), chance.randint(1, most))
        logits = [self.logits[query][place] for place in places]
        expected = [x if dialect.raw else relevance(x, self.activation) for x in logits]
        texts = [self.texts[place] for place in places]
        return dialect.request(self.queries[query], texts), expected


def reference() -> Reference:
    """Score all pairs in this process, with the service's own default model and settings."""
    settings = load({}, {**os.environ, **ENV})
    scorer = load_model(settings.spec(settings.models.local()[0]))
    chance = random.Random(3)
    queries = [" ".join(chance.choices(WORDS, k=5)) for _ in range(QUERIES)]
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(3, 40))) for _ in range(TEXTS)]
    logits = [[score.logit for score in scorer.score(query, texts)] for query in queries]
    return Reference(queries, texts, logits, scorer.info.activation)


def is_right(dialect: Dialect, answer: Response, expected: Sequence[float]) -> bool:
    """Whether the response has the expected score of each document, and of no other."""
    try:
        scores = dialect.scores(answer.json())
    except (LookupError, TypeError, ValueError):
        return False
    return scores.keys() == set(range(len(expected))) and all(
        abs(scores[i] - score) <= TOLERANCE for i, score in enumerate(expected)
    )


@dataclass
class Seen:
    """Responses by kind of request and column; examples of those that must not be."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, request: Request, answer: Response | str) -> None:
        column = column_of(kind, answer)
        self.counts[kind, column] += 1
        if column == "5xx" or (kind == GOOD and column != "2xx"):
            self._add(", ".join((kind, *request.headers)), request, answer)

    def note_wrong(self, kind: str, request: Request, answer: Response) -> None:
        self.wrong[kind] += 1
        self._add(f"wrong scores, {kind}", request, answer)

    def _add(self, title: str, request: Request, answer: Response | str) -> None:
        examples = self.examples.setdefault(title, [])
        if len(examples) < EXAMPLES:
            examples.append(f"{request.method} {_short(request)}: {_short(answer)}")


def _short(what: Request | Response | str) -> str:
    if isinstance(what, str):
        return what
    start = what.path if isinstance(what, Request) else str(what.status)
    headers = {
        name: value[:40] for name, value in what.headers.items() if isinstance(what, Request)
    }
    return f"{start} {headers or ''}{what.body[:120]!r}"


def column_of(kind: str, answer: Response | str) -> str:
    if isinstance(answer, str):
        return LEFT if answer == LEFT else "no response"
    if answer.status in (429, 503):
        return "overload"
    # TEI's format has 424 for it.
    if kind == DEADLINE and answer.status in (424, 504):
        return "deadline"
    return f"{answer.status // 100}xx"


async def ask(url: str, request: Request) -> Response | str:
    """Return the response, or in one word why there is none."""
    try:
        return await raw_http.exchange(url, request, TIMEOUT_S)
    except TimeoutError:
        return raw_http.TIMED_OUT
    except (OSError, EOFError):
        return raw_http.NO_ANSWER


def mutated(chance: random.Random, request: Request) -> Request:
    """Change, delete, insert or repeat some bytes of the body."""
    body = bytearray(request.body)
    for _ in range(chance.randint(1, 8)):
        place = chance.randrange(len(body) + 1)
        part = chance.randrange(min(20, len(body) + 1))
        match chance.randrange(5):
            case 0:
                body[place : place + 1] = chance.randbytes(1)
            case 1:
                del body[place : place + part]
            case 2:
                body[place:place] = chance.randbytes(part)
            case 3:
                body[place:place] = body[max(0, place - part) : place]
            case _:
                body[place : place + 1] = chance.choice(b'{}[]":,\\0-e').to_bytes()
    return Request(request.path, bytes(body))


def wrong_type(chance: random.Random, request: Request) -> Request:
    """Replace a field, or add one that the service knows, with a value of any type."""
    values: list[Any] = [None, 7, -1, 1e308, 2**63, "", "x", [], {}, [[]], [None], {"text": 7}]
    values += [True, "NaN", [7] * 50, {"a": {"b": [{}]}}]
    added = ["top_n", "top_k", "model", "return_documents", "max_tokens_per_doc", "pipeline"]
    added += ["relevant_spans", "priority", "rank_fields", "truncate", "long_document"]
    body = orjson.loads(request.body)
    name = chance.choice([*body, *added])
    return Request.json(request.path, {**body, name: chance.choice(values)})


def wrong_encoding(chance: random.Random, request: Request) -> Request:
    """Send a body that is not what its headers say, or not UTF-8."""
    body, path = request.body, request.path
    return chance.choice(
        [
            Request(path, body, {"content-encoding": b"gzip"}),
            Request(path, body, {"content-encoding": b"zstd"}),
            Request(path, body, {"content-encoding": b"br"}),
            Request(path, gzip.compress(body), {}),
            Request(path, gzip.compress(body)[:-9], {"content-encoding": b"gzip"}),
            Request(path, zstandard.compress(body)[:-5], {"content-encoding": b"zstd"}),
            Request(path, body.decode().encode("utf-16"), {}),
            Request(path, body.replace(b"a", b"\xe9"), {}),
            Request(path, body, {"content-type": b"text/plain"}),
            Request(path, body, {"content-type": b"application/json; charset=utf-7"}),
            Request(path, b"", {}),
            Request(path, b"\xef\xbb\xbf", {}),
        ]
    )


def odd_headers(chance: random.Random, request: Request) -> Request:
    """Send headers, methods and paths that no client should send."""
    body, path = request.body, request.path
    return chance.choice(
        [
            Request(path, body, {"x-request-id": b"caf\xe9"}),
            Request(path, body, {"x-request-id": b"a" * 5_000}),
            Request(path, body, {"x-session-id": b"\xff\xfe"}),
            Request(path, body, {"serve_multiplexed_model_id": b"\xe9"}),
            Request(path, body, {"x-request-timeout-seconds": b"\xe9"}),
            Request(path, body, {"x-request-timeout-ms": b"soon"}),
            Request(path, body, {"accept-encoding": b"gzip;q=\xe9, zstd;q=nan"}),
            Request(path, body, {"authorization": b"\xe9" * 100}),
            Request(path, body, {"traceparent": b"00-\xe9"}),
            Request(path, body, {}, method="DELETE"),
            Request(path, body, {}, method="PUT"),
            Request(path + "/%ff%00", body, {}),
            Request("/v1/models/" + "%e9" * 100, b"", {}, method="GET"),
        ]
    )


async def disconnect(url: str, chance: random.Random, request: Request) -> Response | str:
    """Close the connection in the middle of the body, or while waiting for the response."""
    half = chance.random() < 0.5
    try:
        async with raw_http.connection(url) as (_, writer):
            writer.write(request.head)
            writer.write(request.body[: len(request.body) // 2] if half else request.body)
            await asyncio.sleep(chance.uniform(0, 0.05))
    except OSError:
        return raw_http.NO_ANSWER
    return LEFT


async def slow(url: str, chance: random.Random, request: Request) -> Response | str:
    """Send the request in pieces, for one to four seconds."""
    data, pieces = request.head + request.body, 20
    pause, size = chance.uniform(1, 4) / pieces, len(data) // pieces + 1
    try:
        async with asyncio.timeout(TIMEOUT_S), raw_http.connection(url) as (reader, writer):
            for start in range(0, len(data), size):
                writer.write(data[start : start + size])
                await asyncio.sleep(pause)
            return await raw_http.read(reader)
    except TimeoutError:
        return raw_http.TIMED_OUT
    except (OSError, EOFError):
        return raw_http.NO_ANSWER


def expired(chance: random.Random, request: Request) -> Request:
    """Add a deadline of a few milliseconds."""
    ms = str(chance.randint(1, 4)).encode()
    return Request(request.path, request.body, {"x-request-timeout-ms": ms})


# What is bad about a request, or how it is sent.
CHANGES: Mapping[str, Callable[[random.Random, Request], Request]] = {
    "mutated body": mutated,
    "wrong type": wrong_type,
    "wrong encoding": wrong_encoding,
    "odd headers": odd_headers,
    DEADLINE: expired,
}
SENDERS: Mapping[str, Callable[[str, random.Random, Request], Awaitable[Response | str]]] = {
    "disconnecting": disconnect,
    SLOW: slow,
}
BAD = (*CHANGES, *SENDERS)
# Requests whose scores are checked if they get any.
SCORED = frozenset({GOOD, SLOW})


async def send_on(
    url: str, right: Reference, seen: Seen, chance: random.Random, until: float
) -> None:
    """Send one request after another."""
    while time.monotonic() < until:
        dialect = DIALECTS[chance.choice(list(DIALECTS))]
        request, expected = right.request(chance, dialect)
        kind = GOOD if chance.random() < GOOD_SHARE else chance.choice(BAD)
        if kind in CHANGES:
            request = CHANGES[kind](chance, request)
        send = SENDERS.get(kind)
        answer = await (send(url, chance, request) if send else ask(url, request))
        seen.note(kind, request, answer)
        if kind not in SCORED or isinstance(answer, str) or answer.status != 200:
            continue
        if not is_right(dialect, answer, expected):
            seen.note_wrong(kind, request, answer)


async def measure(
    server: servers.Server, mark: str, right: Reference, clients: int, seconds: float
) -> tuple[Seen, list[Sample]]:
    seen, started = Seen(), time.monotonic()
    samples: list[Sample] = []
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            chance = random.Random(number)
            group.create_task(send_on(server.url, right, seen, chance, started + seconds))
        for part in (0.1, 0.5):
            await asyncio.sleep(started + part * seconds - time.monotonic())
            samples.append(await asyncio.to_thread(service_processes.of_all, mark))
    await asyncio.to_thread(service_processes.settle, mark, SETTLE_S)
    samples.append(service_processes.of_all(mark))
    return seen, samples


def table_of_requests(seen: Seen) -> str:
    lines = [f"| requests | {' | '.join(COLUMNS)} | wrong scores |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for kind in (GOOD, *BAD):
        cells = [str(seen.counts[kind, column]) for column in COLUMNS]
        wrong = str(seen.wrong[kind]) if kind in SCORED else "-"
        lines.append(f"| {kind} | {' | '.join(cells)} | {wrong} |")
    return "\n".join(lines)


def table_of_processes(samples: Sequence[Sample]) -> str:
    lines = ["| process | private MB | descriptors | threads |", "|---|---|---|---|"]
    pids = {pid: name for sample in samples for pid, (name, _) in sample.items()}
    for pid, name in sorted(pids.items(), key=lambda item: (item[1], item[0])):
        found = [sample[pid][1] if pid in sample else None for sample in samples]
        cells = zip(*(_cells(one) for one in found), strict=True)
        lines.append(f"| {name} | {' | '.join(', '.join(cell) for cell in cells)} |")
    return "\n".join(lines)


def _cells(found: Figures | None) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "-"
    return f"{found.private_bytes / 10**6:.0f}", f"{found.descriptors}", f"{found.threads}"


def main() -> None:
    """Print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=90, help="default: %(default)g")
    parser.add_argument("--clients", type=int, default=32, help="default: %(default)s")
    options = parser.parse_args()
    right, mark = reference(), uuid.uuid4().hex
    with servers.running(servers.rerank_up, {**ENV, MARK: mark}) as server:
        seen, samples = asyncio.run(measure(server, mark, right, options.clients, options.seconds))
    if left := service_processes.kill(mark):
        print(f"killed what the service left: {', '.join(left)}", file=sys.stderr)
    total = sum(seen.counts.values())
    print(f"{total} requests in {options.seconds:g} s, {options.clients} clients\n")
    print(table_of_requests(seen))
    print("\nAfter a tenth of the time, at half time, after the end:\n")
    print(table_of_processes(samples))
    for title, examples in seen.examples.items():
        print(f"\n{title}:", *examples, sep="\n  ")


if __name__ == "__main__":
    main()
