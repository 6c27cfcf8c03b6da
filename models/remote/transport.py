"""Calls to a provider: pooled, bounded, tried again where that may help, within a deadline."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson

from models.remote.auth import Authorise
from models.remote.bounds import Breaker, TokenBudget
from models.remote.errors import (
    RemoteAnswerError,
    RemoteError,
    RemoteRateLimited,
    RemoteTimeout,
    RemoteUnavailable,
)
from models.remote.problems import problem, said_in
from models.remote.secret import Secret

MAX_ANSWER_BYTES = 64 * 2**20
BACKOFF_S = 0.25
MAX_BACKOFF_S = 8.0
CONNECT_TIMEOUT_S = 10.0
# They write addresses and headers, and keys with them, where somebody asks for more of the log.
_TALKATIVE = ("httpx", "httpcore", "h2", "hpack")


def make_client(parallel: int) -> httpx.AsyncClient:
    """HTTP/2 where the server speaks it. Redirects are not followed: they would take the key."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx.AsyncClient(
        http2=True,
        follow_redirects=False,
        # Each call's deadline bounds it whole.
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=parallel, max_keepalive_connections=parallel),
    )


class Transport:
    """Posts JSON and gives back what the answer's JSON holds."""

    def __init__(
        self,
        who: str,
        *,
        client: httpx.AsyncClient,
        authorise: Authorise,
        secret: Secret,
        retries: int,
        parallel: int,
        breaker: Breaker,
        budget: TokenBudget,
        counts: Counter[str],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.who = who
        self.counts = counts
        self._client = client
        self._authorise = authorise
        self._secret = secret
        self._retries = retries
        self._slots = asyncio.Semaphore(parallel)
        self._breaker = breaker
        self._budget = budget
        self._sleep = sleep

    async def post(self, url: str, body: Any, *, deadline: float) -> Any:
        """The answer's JSON. `deadline` is in the event loop's time.

        Raises the RemoteError that the last try ended in, or RemoteTimeout.
        """
        content = orjson.dumps(body)
        try:
            async with asyncio.timeout_at(deadline), self._slots:
                return await self._tries(url, content, deadline)
        except TimeoutError:
            self._note_failure()
            raise RemoteTimeout(f"{self.who} did not answer in time") from None
        except RemoteError as error:
            # What a provider says may repeat the key.
            error.args = (self._secret.redact(str(error)),)
            raise

    def spend(self, tokens: int) -> None:
        """Count what a call cost."""
        self._budget.spend(tokens)
        self.counts["tokens"] += tokens

    def bad_answer(self, what: str, answer: Any) -> RemoteAnswerError:
        """The error for an answer that came with a good status and holds no usable scores."""
        self.counts["failures"] += 1
        said = said_in(orjson.dumps(answer)) if isinstance(answer, dict) else ""
        text = f"{self.who} gave an answer that can't be used: {what}"
        return RemoteAnswerError(self._secret.redact(f"{text}. It says: {said}" if said else text))

    async def close(self) -> None:
        await self._client.aclose()

    async def _tries(self, url: str, content: bytes, deadline: float) -> Any:
        attempt = 0
        while True:
            self._budget.check()
            self._breaker.enter()
            self.counts["calls"] += 1
            try:
                answer = await self._once(url, content)
            except (RemoteRateLimited, RemoteUnavailable) as error:
                if isinstance(error, RemoteUnavailable):
                    self._note_failure()
                else:
                    self._breaker.succeeded()
                    self.counts["rate_limited"] += 1
                pause = _pause(attempt, error.retry_after_s)
                too_late = asyncio.get_running_loop().time() + pause >= deadline
                if attempt == self._retries or too_late:
                    raise
            except RemoteError:
                # The provider works; it is this request that it has no answer for.
                self._breaker.succeeded()
                self.counts["failures"] += 1
                raise
            except BaseException:
                self._breaker.left()
                raise
            else:
                self._breaker.succeeded()
                return answer
            attempt += 1
            self.counts["retries"] += 1
            await self._sleep(pause)

    async def _once(self, url: str, content: bytes) -> Any:
        try:
            address, headers = await self._authorise(url, content)
            headers = {"content-type": "application/json", **headers}
            request = self._client.build_request("POST", address, content=content, headers=headers)
            answer = await self._client.send(request, stream=True)
            try:
                received = await self._read(answer)
            finally:
                await answer.aclose()
        except (httpx.HTTPError, httpx.StreamError) as error:
            # The exception's own text may hold the address, and so a token.
            raise RemoteUnavailable(f"{self.who} can't be reached: {_why(error)}") from None
        except httpx.InvalidURL:
            raise RemoteUnavailable(f"{self.who} can't be reached: its address is wrong") from None
        if not 200 <= answer.status_code < 300:
            raise problem(self.who, answer.status_code, answer.headers, received)
        try:
            return orjson.loads(received)
        except ValueError:
            kind = answer.headers.get("content-type", "no type").partition(";")[0]
            raise RemoteAnswerError(
                f"{self.who} answered {len(received)} bytes of {kind} that are not JSON"
            ) from None

    async def _read(self, answer: httpx.Response) -> bytes:
        received = bytearray()
        async for chunk in answer.aiter_bytes():
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                raise RemoteAnswerError(f"{self.who} answered more than {MAX_ANSWER_BYTES} bytes")
        return bytes(received)

    def _note_failure(self) -> None:
        self.counts["failures"] += 1
        if self._breaker.failed():
            self.counts["breaker_opened"] += 1


def _why(error: Exception) -> str:
    words = {
        httpx.ConnectError: "the connection is refused or its name unknown",
        httpx.ConnectTimeout: "connecting takes too long",
        httpx.RemoteProtocolError: "it closed the connection without an answer",
    }
    return next((w for k, w in words.items() if isinstance(error, k)), type(error).__name__)


def _pause(attempt: int, asked: float | None) -> float:
    """Seconds before the next try: full jitter over a doubling bound, no less than was asked.

    By "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    jitter = random.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2.0**attempt))
    return jitter if asked is None else asked + jitter
