"""A proxy in front of the service that fails on demand, to test clients' retries and errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from serve_app.api.dialects import default_for
from serve_app.errors import RerankError
from tests.local_server import QuietHandler, serving


@dataclass
class Flaky:
    """`plan`: errors, or delays in seconds, for the next requests; later ones succeed."""

    url: str
    plan: list[RerankError | float] = field(default_factory=list)
    seen: int = 0


@contextmanager
def flaky(service: str) -> Iterator[Flaky]:
    lock, over = threading.Lock(), threading.Event()
    state = Flaky("")
    client = httpx.Client(base_url=service, timeout=60)

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self._forward(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                state.seen += 1
                step = state.plan.pop(0) if state.plan else 0.0
            if isinstance(step, RerankError):
                self._fail(step)
                return
            if not over.wait(step):
                self._forward(body)

        def _fail(self, error: RerankError) -> None:
            dialect = default_for(self.path)
            more = {"retry_after": "1"} if error.retry_after_s else {}
            content = dialect.error(error, "id")
            self.send(dialect.status(error), content, content_type="application/json", **more)

        def _forward(self, body: bytes | None) -> None:
            kept = {k: v for k, v in self.headers.items() if k.lower() in ("content-type",)}
            answer = client.request(self.command, self.path, content=body, headers=kept)
            try:
                self.send(answer.status_code, answer.content, content_type="application/json")
            except (BrokenPipeError, ConnectionResetError):
                return  # the client waited long enough

    with client, serving(Handler) as url:
        state.url = url
        try:
            yield state
        finally:
            over.set()
