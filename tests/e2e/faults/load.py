"""Clients that send requests continuously, and check every score in the responses."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.e2e.faults.replica import expected

DOCUMENTS = 5
# The statuses that clients commonly retry.
PASSING = frozenset({429, 500, 502, 503, 504})
_numbers = itertools.count()


@dataclass
class Seen:
    """What the clients saw: `retries`, and requests that `failed` despite them."""

    answered: int = 0
    wrong: int = 0
    retries: int = 0
    slowest_s: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**self.__dict__, "statuses": dict(self.statuses)}


class Load:
    """`clients` concurrent clients, until stopped."""

    def __init__(self, url: str, clients: int = 4, retries: int = 0, large: bool = False) -> None:
        self.seen = Seen()
        self._url = url
        self._retries = retries
        self._filler = " filler" * 3000 if large else ""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def wait(self, answers: int, limit_s: float = 60) -> None:
        """Wait until this many more requests have been answered."""
        wanted, deadline = self.seen.answered + answers, time.monotonic() + limit_s
        while self.seen.answered < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.seen.answered < wanted:
            raise AssertionError(f"the service stopped responding: {self.seen}")

    def _ask_on(self) -> None:
        with httpx.Client(timeout=120, trust_env=False) as client:
            while not self._over.is_set():
                self._ask(client)

    def _ask(self, client: httpx.Client) -> None:
        query = f"q{next(_numbers)}"
        documents = [f"{query}-{i}{self._filler}" for i in range(DOCUMENTS)]
        started = time.monotonic()
        for attempt in itertools.count():
            problem, again = self._try(client, query, documents)
            if problem is None or not again or attempt >= self._retries:
                break
            with self._lock:
                self.seen.retries += 1
            time.sleep(0.1 * 2**attempt)
        with self._lock:
            self.seen.slowest_s = max(self.seen.slowest_s, time.monotonic() - started)
            if problem is not None:
                self.seen.failed.append(problem)

    def _try(
        self, client: httpx.Client, query: str, documents: list[str]
    ) -> tuple[str | None, bool]:
        """Return what went wrong, and whether a client would retry."""
        try:
            answer = client.post(
                f"{self._url}/v1/rerank", json={"query": query, "documents": documents}
            )
        except httpx.HTTPError as error:
            with self._lock:
                self.seen.statuses[type(error).__name__] += 1
            return repr(error), True
        with self._lock:
            self.seen.statuses[str(answer.status_code)] += 1
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.text[:200]}", answer.status_code in PASSING
        found = {hit["index"]: hit["relevance_score"] for hit in answer.json()["results"]}
        right = found == {i: expected(query, d) for i, d in enumerate(documents)}
        with self._lock:
            self.seen.answered += 1
            self.seen.wrong += not right
        return None, False
