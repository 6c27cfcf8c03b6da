"""Fetching images by URL, if the settings allow it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import replace

import httpx

from models.images import DATA_URI, MAX_BYTES
from models.types import Document
from serve_app.errors import InvalidRequest

TIMEOUT_S = 10.0
MAX_PARALLEL = 8


class ImageFetcher:
    """Replaces the URLs of image documents by data URIs."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=True, max_redirects=3)
        self._slots = asyncio.Semaphore(MAX_PARALLEL)

    async def resolve(self, documents: Sequence[Document]) -> tuple[Document, ...]:
        """Return all documents in their order. Raises InvalidRequest naming a failed one."""
        jobs = [self._resolve(i, document) for i, document in enumerate(documents)]
        return tuple(await asyncio.gather(*jobs))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _resolve(self, index: int, document: Document) -> Document:
        if isinstance(document, str) or DATA_URI.match(document.data_uri):
            return document
        async with self._slots:
            try:
                return replace(document, data_uri=await self._fetch(document.data_uri))
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                reason = str(error) or type(error).__name__
                raise InvalidRequest(
                    f"documents[{index}].image cannot be fetched: {reason}",
                    param=f"documents[{index}].image",
                ) from error

    async def _fetch(self, url: str) -> str:
        async with self._client.stream("GET", url) as answer:
            answer.raise_for_status()
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if not kind.startswith("image/"):
                raise ValueError(f"its content type is {kind or 'missing'}, not an image")
            content = bytearray()
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        return f"data:{kind};base64,{base64.b64encode(content).decode()}"
