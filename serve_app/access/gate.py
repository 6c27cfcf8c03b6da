"""Identifies the client of a request, admits or refuses the request, and charges its tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from serve_app.access.credentials import candidates, is_key_like
from serve_app.access.keyring import KeyRing
from serve_app.access.keys import ANONYMOUS, Key, KeySet
from serve_app.access.limits import Budget, Limiter
from serve_app.errors import Forbidden, RateLimited, RerankError, Unauthorized
from serve_app.pricing import Price
from serve_app.telemetry import Snapshot, Telemetry, scored, usage_of
from serve_app.telemetry.usage import of_key
from serve_app.types import RerankRequest, RerankResult

if TYPE_CHECKING:
    from starlette.types import Scope

# Probes send no key.
ALWAYS_OPEN = frozenset({"/health", "/ready"})
# They show the usage of all clients.
OPERATORS_ONLY = frozenset({"/metrics"})
_SCOPE_KEY = "rerank.visit"


class Metered:
    """A request being ranked within its client's limits."""

    result: RerankResult | None = None

    def settle(self, result: RerankResult) -> None:
        """Charge the tokens of the result instead of the estimate."""
        self.result = result


class Visit:
    """One HTTP request: its client's name and budget, and the error if it is refused.

    `operator`: it may see what concerns all clients; true of every request if there are no keys.
    """

    def __init__(
        self,
        access: Access,
        name: str,
        budget: Budget | None = None,
        problem: RerankError | None = None,
        *,
        metered: bool = False,
        operator: bool = False,
    ) -> None:
        self.name = name
        self.operator = operator
        self.problem = problem
        self._access = access
        self._budget = budget
        self._metered = metered

    @staticmethod
    def of(scope: Scope) -> Visit:
        """The visit that the gate stored in the request's scope."""
        visit: Visit = scope[_SCOPE_KEY]
        return visit

    @staticmethod
    def found(scope: Scope) -> Visit | None:
        """The visit, or None if the request did not reach the gate."""
        visit: Visit | None = scope.get(_SCOPE_KEY)
        return visit

    def headers(self) -> dict[str, str]:
        """The headers of every response to this request."""
        if isinstance(self.problem, Unauthorized):
            return {"www-authenticate": "Bearer"}
        return self._budget.headers(self._access.now()) if self._budget else {}

    def charge_queries(self, count: int) -> None:
        """Charge the queries of a batch as requests. One was charged when the request came in.

        If fewer are left, the client has to wait until the limit has made up for them.
        """
        if self._budget is not None and (bucket := self._budget.requests) is not None:
            bucket.take(count - 1, self._access.now())

    @asynccontextmanager
    async def metered(self, request: RerankRequest) -> AsyncIterator[Metered]:
        """Rank within the client's token limit in this block; `settle` charges the actual tokens.

        An estimate is charged while the block runs, so that concurrent requests cannot all spend
        the same remainder. The estimate is capped at the remaining tokens, so that a wrong one
        does not delay later requests. Raises RateLimited if no token is left.
        """
        bucket = self._budget.tokens if self._budget else None
        held = 0.0
        if bucket is not None:
            now = self._access.now()
            if not bucket.has_one(now):
                raise RateLimited(
                    f"rate limit of {bucket.capacity} tokens per minute exceeded; "
                    "retry after the seconds in Retry-After",
                    retry_after_s=bucket.wait_s(now),
                )
            held = min(bucket.level(now), estimate(request))
            bucket.take(held, now)
        usage = Metered()
        with scored.measured() as work:
            try:
                yield usage
            finally:
                if bucket is not None:
                    result = usage.result
                    # Cached scores need no forward pass and are free. A request that failed or
                    # was cancelled pays for what was scored until then.
                    used = result.tokens - result.cached_tokens if result else work.total
                    bucket.take(used - held, self._access.now())
        if (result := usage.result) is None:
            return
        counts = {
            "documents": len(request.documents),
            "tokens": result.tokens,
            "cached_tokens": result.cached_tokens,
        }
        telemetry = self._access.telemetry
        telemetry.record_usage(self.name, **counts)
        telemetry.record_model_usage(self.name, result.model, queries=1, **counts)

    def ended(self, status: int) -> None:
        """Count the request once its response status is known."""
        if self._metered:
            self._access.telemetry.record_usage(self.name, requests=1, errors=int(status >= 400))


class Access:
    """Admits requests by key and by rate. Without keys all clients share the name `anonymous`."""

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        ring: KeyRing | None = None,
        rpm: int = 0,
        tpm: int = 0,
        open_routes: Collection[str] = (),
        cors_origins: tuple[str, ...] = (),
        prices: Mapping[str, Price] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.telemetry = telemetry
        self.cors_origins = cors_origins
        self.now = clock
        self._prices = prices or {}
        self._ring = ring
        self._keys: KeySet | None = None
        self._limiter = Limiter(rpm, tpm, clock)
        self._open = ALWAYS_OPEN | frozenset(open_routes)

    def enter(self, scope: Scope) -> Visit:
        """The request's visit, stored in its scope. Never raises: a refusal is its `problem`."""
        visit = scope[_SCOPE_KEY] = self._visit(scope)
        return visit

    def _visit(self, scope: Scope) -> Visit:
        # Everything that needs a forward pass is a POST; reading is free.
        metered = scope["method"] == "POST"
        path = _path(scope)
        sent = candidates(scope["headers"]) if self._ring is not None else []
        key = self._key(sent)
        if path in self._open and not metered:
            return Visit(self, ANONYMOUS, operator=key is not None and key.operator)
        if key is None:
            return Visit(self, ANONYMOUS, problem=_unauthorized(bool(sent)))
        budget = self._limiter.budget(key.name, key.rpm, key.tpm)
        problem = self._charge(budget) if metered else None
        if path in OPERATORS_ONLY and not key.operator:
            problem = Forbidden(
                f"{path} requires an operator's API key; GET /v1/usage shows your own usage"
            )
        return Visit(self, key.name, budget, problem, metered=metered, operator=key.operator)

    def _key(self, sent: Sequence[bytes]) -> Key | None:
        """The valid key among those sent; without keys, everybody is an operator."""
        if self._ring is None:
            return Key(b"", ANONYMOUS, operator=True)
        return self._current(self._ring).find(filter(is_key_like, sent))

    def _current(self, ring: KeyRing) -> KeySet:
        keys = ring.keys()
        if keys is not self._keys:
            self._keys = keys
            self._limiter.keep_only(keys.names)
        return keys

    def _charge(self, budget: Budget) -> RerankError | None:
        bucket, now = budget.requests, self.now()
        if bucket is None:
            return None
        if bucket.has_one(now):
            bucket.take(1, now)
            return None
        return RateLimited(
            f"rate limit of {bucket.capacity} requests per minute exceeded; "
            "retry after the seconds in Retry-After",
            retry_after_s=bucket.wait_s(now),
        )

    def usage(self, visit: Visit, snapshot: Snapshot) -> dict[str, Any]:
        """The usage of the visit's client over all ingress replicas, with its cost and limits."""
        budget = visit._budget or Budget()
        return {
            "object": "usage",
            "key": visit.name,
            **usage_of(snapshot, visit.name),
            **of_key(snapshot.usage_by_model, visit.name, self._prices),
            "limits": {
                "requests_per_minute": budget.requests.capacity if budget.requests else None,
                "tokens_per_minute": budget.tokens.capacity if budget.tokens else None,
            },
        }


def estimate(request: RerankRequest) -> int:
    """The approximate number of tokens of a request, estimated from its characters."""
    return scored.estimate(request.query, request.documents, request.options.max_tokens_per_doc)


def _unauthorized(sent: bool) -> Unauthorized:
    if sent:
        return Unauthorized("invalid API key")
    return Unauthorized(
        "an API key is required; send it as `Authorization: Bearer KEY`, `X-API-Key: KEY` or "
        "`API-Key: KEY`"
    )


def _path(scope: Scope) -> str:
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
