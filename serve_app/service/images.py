"""Fetching images by URL, if the settings allow it."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpcore
import httpx

from models.concurrency import gather_or_cancel
from models.images import DATA_URI, MAX_BYTES
from models.types import Document
from serve_app import __version__
from serve_app.errors import InvalidRequest, Overloaded
from serve_app.service.addresses import AddressRefused, AllowedAddresses, CheckedConnections
from serve_app.service.admission import Admission
from serve_app.types import RerankRequest

logger = logging.getLogger("ray.serve")

# Limits of one image: seconds in all (with redirects), seconds to connect to one address.
TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 3.0
MAX_REDIRECTS = 3
# Limits of one request: URLs, bytes in all, seconds in all, images fetched at once.
MAX_IMAGES = 500
MAX_REQUEST_BYTES = 32 * 2**20
REQUEST_TIMEOUT_S = 30.0
MAX_PARALLEL = 4
# Limits of all requests: how many fetch at once, seconds to wait for that, bytes held.
MAX_FETCHING = 16
QUEUE_TIMEOUT_S = 30.0
MAX_HELD_BYTES = 128 * 2**20

# `identity`: a compressed answer may be a thousand times larger than what was received.
_HEADERS = (("accept", "image/*"), ("accept-encoding", "identity"))
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Failures of a fetch. Their reason goes to the log, not to the client.
_FAILURES = (
    AddressRefused,
    TimeoutError,
    ValueError,
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


class ImageFetcher:
    """Replaces the URLs of image documents by data URIs."""

    def __init__(self, admission: Admission, private_hosts: Iterable[str] = ()) -> None:
        """`admission`: the requests' queue; nothing is fetched while it is full.

        `private_hosts`: host names, addresses and networks that are fetched from although they
        are not public.
        """
        self._admission = admission
        # Not slots of `admission`: slow image servers must not stop requests without images.
        self._turns = Admission(MAX_FETCHING, admission.max_queue, QUEUE_TIMEOUT_S)
        self._connections = CheckedConnections(AllowedAddresses(private_hosts))
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._opening = asyncio.Lock()
        self.held_bytes = 0

    @asynccontextmanager
    async def request(self, request: RerankRequest) -> AsyncIterator[RequestImages]:
        """Yield the images of one request; their bytes count as held until the block ends."""
        images = RequestImages(self, request.priority)
        try:
            yield images
        finally:
            self.held_bytes -= images.held_bytes

    @asynccontextmanager
    async def turn(self, priority: int) -> AsyncIterator[None]:
        """Wait until one more request may fetch. Raises Overloaded, QueueTimeout, ShuttingDown."""
        self._admission.check(priority)
        async with self._turns.slot(priority):
            yield

    def hold(self, size: int) -> None:
        """Count bytes as held. Raises Overloaded if all requests hold too many."""
        self.held_bytes += size
        if self.held_bytes > MAX_HELD_BYTES:
            raise Overloaded("too many images are being fetched; try again in a moment")

    async def open(self, url: httpx.URL) -> tuple[httpcore.AsyncConnectionPool, httpcore.Request]:
        """Return the connections, and a request for the URL."""
        async with self._opening:
            if self._pool is None:
                # In a thread, because reading the certificates takes 25 ms.
                trusted = await asyncio.to_thread(httpx.create_ssl_context)
                # Proxies of the environment are not used: they would resolve the name again.
                self._pool = httpcore.AsyncConnectionPool(
                    ssl_context=trusted,
                    max_connections=MAX_FETCHING * MAX_PARALLEL,
                    keepalive_expiry=5.0,
                    network_backend=self._connections,
                )
        target = httpcore.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        host = url.netloc.decode("ascii")
        agent = f"rerank-serve/{__version__}"
        headers = [("host", host), ("user-agent", agent), *_HEADERS]
        timeouts = {"timeout": {"connect": CONNECT_TIMEOUT_S}}
        return self._pool, httpcore.Request("GET", target, headers=headers, extensions=timeouts)

    async def close(self) -> None:
        """Close the connections."""
        self._connections.close()
        if self._pool is not None:
            await self._pool.aclose()


class RequestImages:
    """The images of one request, each fetched once."""

    def __init__(self, fetcher: ImageFetcher, priority: int) -> None:
        self._fetcher = fetcher
        self._priority = priority
        self._data_uris: dict[str, str] = {}
        # Two stages of a pipeline may ask for the same images.
        self._one_at_a_time = asyncio.Lock()
        self.held_bytes = 0

    async def fetch(
        self, documents: Sequence[Document], numbers: Sequence[int] | None = None
    ) -> tuple[Document, ...]:
        """Return all documents in their order, none of them with a URL.

        `numbers`: the documents' indices in the request, where these are only a part of it.
        Stops at the first failure and raises InvalidRequest, which names the document but
        not the reason, which would describe the network around the service.
        """
        where: dict[str, int] = {}
        for i, document in enumerate(documents):
            if (url := _url(document)) is not None:
                where.setdefault(url, i if numbers is None else numbers[i])
        if not where:
            return tuple(documents)
        async with self._one_at_a_time:
            missing = {url: i for url, i in where.items() if url not in self._data_uris}
            if missing:
                await self._fetch_all(missing)
        return tuple(
            replace(d, data_uri=self._data_uris[url])
            if not isinstance(d, str) and (url := _url(d)) is not None
            else d
            for d in documents
        )

    async def _fetch_all(self, where: dict[str, int]) -> None:
        if len(self._data_uris) + len(where) > MAX_IMAGES:
            raise InvalidRequest(
                f"a request may have at most {MAX_IMAGES} images by URL; send data URIs or fewer "
                "documents",
                param="documents",
            )
        parallel = asyncio.Semaphore(MAX_PARALLEL)

        async def fetch(url: str, number: int) -> None:
            async with parallel:
                self._data_uris[url] = await self._fetch(url, number)

        async with self._fetcher.turn(self._priority):
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT_S):
                    await gather_or_cancel(fetch(url, i) for url, i in where.items())
            except TimeoutError:
                raise InvalidRequest(
                    f"the images could not be fetched within {REQUEST_TIMEOUT_S:g} s; send data "
                    "URIs or fewer documents",
                    param="documents",
                ) from None

    async def _fetch(self, url: str, number: int) -> str:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                kind, content = await self._get(httpx.URL(url))
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
            logger.info("documents[%d].image was not fetched: %s", number, reason)
            raise InvalidRequest(
                f"documents[{number}].image cannot be fetched: it must be the address of an image "
                f"of at most {MAX_BYTES} bytes on a public server",
                param=f"documents[{number}].image",
            ) from None
        return await asyncio.to_thread(_data_uri, kind, content)

    async def _get(self, url: httpx.URL) -> tuple[str, bytes]:
        """The content type and the content. Raises one of _FAILURES."""
        for _ in range(MAX_REDIRECTS + 1):
            valid = url.scheme in ("http", "https") and url.host
            if not valid or not 0 < (url.port or 80) < 2**16:
                raise ValueError("it is not a valid http or https URL")
            pool, request = await self._fetcher.open(url)
            answer = await pool.handle_async_request(request)
            try:
                headers = httpx.Headers(answer.headers)
                if answer.status in _REDIRECTS and "location" in headers:
                    url = url.join(headers["location"])
                    continue
                return await self._read(answer, headers)
            finally:
                await answer.aclose()
        raise ValueError(f"it has more than {MAX_REDIRECTS} redirects")

    async def _read(self, answer: httpcore.Response, headers: httpx.Headers) -> tuple[str, bytes]:
        if answer.status not in (200, 203):
            raise ValueError(f"its server answered with status {answer.status}")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not DATA_URI.fullmatch(f"data:{kind};base64,"):
            raise ValueError("it is not an image")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ValueError("it is compressed, although that was not asked for")
        content = bytearray()
        async for chunk in answer.aiter_stream():
            content += chunk
            if len(content) > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES} bytes")
            self._hold(len(chunk))
        return kind, bytes(content)

    def _hold(self, size: int) -> None:
        self.held_bytes += size
        self._fetcher.hold(size)
        if self.held_bytes > MAX_REQUEST_BYTES:
            raise InvalidRequest(
                f"the images by URL have more than {MAX_REQUEST_BYTES} bytes in all; send fewer "
                "documents",
                param="documents",
            )


def _url(document: Document) -> str | None:
    if isinstance(document, str) or DATA_URI.match(document.data_uri):
        return None
    return document.data_uri


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
