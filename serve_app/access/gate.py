"""Who a request is from, whether it may come in, and what it is charged."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from serve_app.access.credentials import candidates, is_key_like
from serve_app.access.keys import ANONYMOUS, Key, KeySet
from serve_app.access.limits import Budget, Limiter
from serve_app.access.ring import KeyRing
from serve_app.errors import RateLimited, RerankError, Unauthorized
from serve_app.pricing import Price
from serve_app.telemetry import Snapshot, Telemetry, usage_of
from serve_app.types import RerankRequest, RerankResult
from serve_app.usage import of_key

if TYPE_CHECKING:
    from starlette.types import Scope

# Probes carry no key.
ALWAYS_OPEN = frozenset({"/health", "/ready"})
CHARS_PER_TOKEN = 4
_KEY_IN_SCOPE = "rerank.visit"

Rerank = Callable[[RerankRequest], Awaitable[RerankResult]]


class Visit:
    """One HTTP request: its client's name, its budget, and why it is refused, if it is."""

    def __init__(
        self,
        access: Access,
        name: str,
        budget: Budget | None = None,
        problem: RerankError | None = None,
        *,
        metered: bool = False,
    ) -> None:
        self.name = name
        self.problem = problem
        self._access = access
        self._budget = budget
        self._metered = metered

    @staticmethod
    def of(scope: Scope) -> Visit:
        """The visit that the gate put into a request's scope."""
        visit: Visit = scope[_KEY_IN_SCOPE]
        return visit

    @staticmethod
    def found(scope: Scope) -> Visit | None:
        """The visit, where the request came as far as the gate."""
        visit: Visit | None = scope.get(_KEY_IN_SCOPE)
        return visit

    def headers(self) -> dict[str, str]:
        """What every answer to this request carries."""
        if isinstance(self.problem, Unauthorized):
            return {"www-authenticate": "Bearer"}
        return self._budget.headers(self._access.now()) if self._budget else {}

    async def run(self, request: RerankRequest, rerank: Rerank) -> RerankResult:
        """Rank under the client's limit of tokens, and count what it took.

        An estimate is taken while it runs, so that requests at once can't all pass on the same
        remainder; it never takes more than there is, so that a wrong one holds nobody up later.
        Raises RateLimited where no token is left, else what `rerank` raises.
        """
        bucket = self._budget.tokens if self._budget else None
        held = 0.0
        if bucket is not None:
            now = self._access.now()
            if not bucket.has_one(now):
                raise RateLimited(
                    f"the limit of {bucket.capacity} tokens a minute is used up; "
                    "wait for the seconds in Retry-After",
                    retry_after_s=bucket.wait_s(now),
                )
            held = min(bucket.level(now), estimate(request))
            bucket.take(held, now)
        try:
            result = await rerank(request)
        except RerankError:
            if bucket is not None:
                bucket.take(-held, self._access.now())
            raise
        if bucket is not None:
            # The score store's answers cost no forward pass, and so no tokens.
            bucket.take(result.tokens - result.cached_tokens - held, self._access.now())
        used = {
            "documents": len(request.documents),
            "tokens": result.tokens,
            "cached_tokens": result.cached_tokens,
        }
        telemetry = self._access.telemetry
        telemetry.record_usage(self.name, **used)
        telemetry.record_model_usage(self.name, result.model, queries=1, **used)
        return result

    def ended(self, status: int) -> None:
        """Count the request, once its answer is known."""
        if self._metered:
            self._access.telemetry.record_usage(self.name, requests=1, errors=int(status >= 400))


class Access:
    """Lets requests in by key and by rate. Without keys everybody is one client, `anonymous`."""

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
        """The request's visit, kept in its scope. A refused one has a `problem`; none raises."""
        visit = scope[_KEY_IN_SCOPE] = self._visit(scope)
        return visit

    def _visit(self, scope: Scope) -> Visit:
        # All that costs a forward pass is posted; what is read is free.
        metered = scope["method"] == "POST"
        if _path(scope) in self._open and not metered:
            return Visit(self, ANONYMOUS)
        if self._ring is None:
            key = Key(b"", ANONYMOUS)
        else:
            sent = candidates(scope["headers"])
            found = self._current(self._ring).find(filter(is_key_like, sent))
            if found is None:
                return Visit(self, ANONYMOUS, problem=_unauthorized(bool(sent)))
            key = found
        budget = self._limiter.budget(key.name, key.rpm, key.tpm)
        problem = self._charge(budget) if metered else None
        return Visit(self, key.name, budget, problem, metered=metered)

    def _current(self, ring: KeyRing) -> KeySet:
        keys = ring.keys()
        if keys is not self._keys:
            self._keys = keys
            self._limiter.forget_all_but(keys.names)
        return keys

    def _charge(self, budget: Budget) -> RerankError | None:
        bucket, now = budget.requests, self.now()
        if bucket is None:
            return None
        if bucket.has_one(now):
            bucket.take(1, now)
            return None
        return RateLimited(
            f"the limit of {bucket.capacity} requests a minute is used up; "
            "wait for the seconds in Retry-After",
            retry_after_s=bucket.wait_s(now),
        )

    def usage(self, visit: Visit, snapshot: Snapshot) -> dict[str, Any]:
        """What the visit's client has used, over all ingress replicas, its cost and limits."""
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
    """About how many tokens a request has, by its characters."""
    longest = request.options.max_tokens_per_doc
    limit = CHARS_PER_TOKEN * longest if longest is not None else math.inf
    chars = sum(min(len(document), limit) for document in request.documents)
    chars += len(request.query) * len(request.documents)
    return math.ceil(chars / CHARS_PER_TOKEN)


def _unauthorized(sent: bool) -> Unauthorized:
    if sent:
        return Unauthorized("the API key is not one that this service knows")
    return Unauthorized(
        "an API key is needed; send it as `Authorization: Bearer KEY`, or in x-api-key or api-key"
    )


def _path(scope: Scope) -> str:
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
