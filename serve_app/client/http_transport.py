"""A rerank route over HTTP. Imports httpx, which `import serve_app.client` leaves for later."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import httpx

from serve_app.client import wire, wire_many
from serve_app.client.arguments import one_of
from serve_app.client.errors import TookTooLong, Unreachable, from_response
from serve_app.client.transport import NoBatchRoute
from serve_app.errors import InvalidRequest

# The route does not exist, or does not accept such a request.
_NO_ROUTE = frozenset({404, 405, 501})


class Http:
    """A rerank route over HTTP, with one connection pool."""

    def __init__(
        self,
        url: str,
        *,
        dialect: wire.DialectName,
        api_key: str | None,
        headers: Mapping[str, str] | None,
        extra_body: Mapping[str, Any] | None,
        timeout_s: float,
        connect_timeout_s: float,
        max_connections: int,
        http2: bool | None,
        client: httpx.AsyncClient | None,
    ) -> None:
        one_of(dialect, wire.WIRES, "dialect")
        self._url = route(base_url(url))
        self._host = httpx.URL(self._url).netloc.decode() or self._url
        self._wire = wire.WIRES[dialect]
        self.takes_many = dialect == "native"
        self._extra = dict(extra_body or {})
        self._timeout_s = timeout_s
        self._headers = {"content-type": "application/json", **(headers or {})}
        if api_key is not None:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._owned = client is None
        self._client = client or httpx.AsyncClient(
            # TLS negotiates the version, so offering HTTP/2 costs nothing.
            http2=_has_h2() if http2 is None else http2,
            timeout=httpx.Timeout(timeout_s, connect=connect_timeout_s, pool=None),
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
        )

    async def send(self, batch: wire.Batch) -> wire.Answer:
        response = await self._post(self._url, wire.encode(batch, self._wire, self._extra))
        self._check(response)
        return wire.decode(response.content, batch, self._host)

    async def send_many(self, batches: Sequence[wire.Batch]) -> list[wire_many.Outcome]:
        response = await self._post(f"{self._url}/batch", wire_many.encode(batches, self._extra))
        if response.status_code in _NO_ROUTE:
            self.takes_many = False
            raise NoBatchRoute
        self._check(response)
        return wire_many.decode(response.content, batches, self._host)

    async def _post(self, url: str, content: bytes) -> httpx.Response:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._client.post(url, content=content, headers=self._headers)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise TookTooLong(
                f"{self._host} did not respond within {self._timeout_s:g} s; raise timeout_s or "
                "lower batch_size"
            ) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self._host} is unreachable: {reason}") from error

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            raise from_response(
                response.status_code, response.content, response.headers, self._host
            )

    async def aclose(self) -> None:
        if self._owned:
            await self._client.aclose()


def base_url(value: str) -> str:
    """Check that `value` is an HTTP URL, and return it unchanged. Raises InvalidRequest."""
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{value!r} is not a valid URL: {error}", param="target") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidRequest(
            f"{value!r} is not a server's URL; it must start with http:// or https://",
            param="target",
        )
    return value


def route(url: str) -> str:
    """Return the rerank route of a base URL; a URL that names the route is kept."""
    url = url.rstrip("/")
    last = url.rpartition("/")[2]
    return url if last in ("rerank", "reranking") else f"{url}/rerank"


def _has_h2() -> bool:
    return find_spec("h2") is not None
