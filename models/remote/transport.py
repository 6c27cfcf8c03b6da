"""HTTP calls to a provider: pooled, limited, retried if that may help, within a deadline."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson

from models.remote.auth import Authorise
from models.remote.bounds import CircuitBreaker, TokenBudget
from models.remote.errors import (
    RemoteAnswerError,
    RemoteError,
    RemoteRateLimited,
    RemoteTimeout,
    RemoteUnavailable,
)
from models.remote.problems import error_for, message_in
from models.remote.secret import Secret

MAX_ANSWER_BYTES = 64 * 2**20
BACKOFF_S = 0.25
MAX_BACKOFF_S = 8.0
CONNECT_TIMEOUT_S = 10.0
# At lower log levels these loggers write URLs and headers, including keys.
_LOGGERS_WITH_KEYS = ("httpx", "httpcore", "h2", "hpack")


def make_client(parallel: int) -> httpx.AsyncClient:
    """A client that uses HTTP/2 if offered. Following redirects would send the key elsewhere."""
    for name in _LOGGERS_WITH_KEYS:
        logging.getLogger(name).setLevel(logging.WARNING)
    return httpx.AsyncClient(
        http2=True,
        follow_redirects=False,
        # Each call has a deadline for all of it.
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=parallel, max_keepalive_connections=parallel),
    )


class Transport:
    """Posts JSON and returns the parsed JSON answer."""

    def __init__(
        self,
        label: str,
        *,
        client: httpx.AsyncClient,
        authorise: Authorise,
        secret: Secret,
        retries: int,
        parallel: int,
        breaker: CircuitBreaker,
        budget: TokenBudget,
        counts: Counter[str],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.label = label
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
        """Post the body and return the answer's JSON. `deadline` is in the event loop's time.

        Raises the RemoteError of the last attempt, or RemoteTimeout.
        """
        content = orjson.dumps(body)
        now = asyncio.get_running_loop().time
        arrived, began = now(), math.inf
        try:
            async with asyncio.timeout_at(deadline), self._slots:
                began = now()
                if began >= deadline:
                    raise TimeoutError
                return await self._post_with_retries(url, content, deadline)
        except TimeoutError:
            if now() - began < began - arrived:
                # Most of the time passed before the call: the provider may be fine.
                raise RemoteTimeout(
                    f"{self.label} timed out: all of its parallel calls are in use"
                ) from None
            self._record_failure()
            raise RemoteTimeout(f"{self.label} timed out") from None
        except RemoteError as error:
            # The provider's message may repeat the key.
            error.args = (self._secret.redact(str(error)),)
            raise

    def spend(self, tokens: int) -> None:
        """Count the tokens of a call."""
        self._budget.spend(tokens)
        self.counts["tokens"] += tokens

    def unusable_answer(self, reason: str, answer: Any) -> RemoteAnswerError:
        """Count and return the error for a 2xx answer without usable scores."""
        self.counts["failures"] += 1
        message = message_in(orjson.dumps(answer)) if isinstance(answer, dict) else ""
        text = f"{self.label} returned an unusable response: {reason}"
        if message:
            text += f". The provider says: {message}"
        return RemoteAnswerError(self._secret.redact(text))

    async def close(self) -> None:
        await self._client.aclose()

    async def _post_with_retries(self, url: str, content: bytes, deadline: float) -> Any:
        attempt = 0
        while True:
            self._budget.check()
            self._breaker.admit()
            self.counts["calls"] += 1
            try:
                answer = await self._post_once(url, content)
            except (RemoteRateLimited, RemoteUnavailable) as error:
                if isinstance(error, RemoteUnavailable):
                    self._record_failure()
                else:
                    self._breaker.succeeded()
                    self.counts["rate_limited"] += 1
                pause_s = _backoff_s(attempt, error.retry_after_s)
                too_late = asyncio.get_running_loop().time() + pause_s >= deadline
                if attempt == self._retries or too_late:
                    raise
            except RemoteError:
                # The provider works, but cannot serve this request.
                self._breaker.succeeded()
                self.counts["failures"] += 1
                raise
            except BaseException:
                self._breaker.cancelled()
                raise
            else:
                self._breaker.succeeded()
                return answer
            attempt += 1
            self.counts["retries"] += 1
            await self._sleep(pause_s)

    async def _post_once(self, url: str, content: bytes) -> Any:
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
            # The exception's text may contain the URL, and a token with it.
            raise RemoteUnavailable(f"{self.label} is unreachable: {_reason(error)}") from None
        except httpx.InvalidURL:
            raise RemoteUnavailable(f"{self.label} is unreachable: invalid URL") from None
        if not 200 <= answer.status_code < 300:
            raise error_for(self.label, answer.status_code, answer.headers, received)
        try:
            return orjson.loads(received)
        except ValueError:
            content_type = answer.headers.get("content-type", "no content type").partition(";")[0]
            raise RemoteAnswerError(
                f"{self.label} returned a response that is not JSON "
                f"({len(received)} bytes, {content_type})"
            ) from None

    async def _read(self, answer: httpx.Response) -> bytes:
        received = bytearray()
        async for chunk in answer.aiter_bytes():
            received += chunk
            if len(received) > MAX_ANSWER_BYTES:
                raise RemoteAnswerError(f"{self.label} returned more than {MAX_ANSWER_BYTES} bytes")
        return bytes(received)

    def _record_failure(self) -> None:
        self.counts["failures"] += 1
        if self._breaker.failed():
            self.counts["breaker_opened"] += 1


def _reason(error: Exception) -> str:
    reasons = {
        httpx.ConnectError: "connection refused or host name unknown",
        httpx.ConnectTimeout: "connection timed out",
        httpx.RemoteProtocolError: "connection closed without a response",
    }
    return next((r for kind, r in reasons.items() if isinstance(error, kind)), type(error).__name__)


def _backoff_s(attempt: int, retry_after_s: float | None) -> float:
    """Seconds before the next attempt: exponential backoff with full jitter, after Retry-After.

    As in "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    jitter = random.uniform(0, min(MAX_BACKOFF_S, BACKOFF_S * 2.0**attempt))
    return jitter if retry_after_s is None else retry_after_s + jitter
