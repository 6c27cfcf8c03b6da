"""Compressed request and response bodies: gzip and zstd."""

from __future__ import annotations

import asyncio
import gzip
import io
import re
import zlib

import zstandard

from serve_app.errors import BodyTooLarge, MalformedBody, UnsupportedEncoding

# In order of preference for responses.
ENCODINGS = ("zstd", "gzip")
# Smaller responses are not compressed: the headers would outweigh the savings.
MIN_BYTES = 1024
# Larger responses are compressed in a thread, so as not to block other requests.
THREAD_BYTES = 64 * 1024
_CHUNK = 256 * 1024
# A gzip member is fed in pieces that double from this size: zlib copies what follows the member
# within a piece, so that larger first pieces would make many small members take quadratic time.
_MIN_STEP = 256
_ZEROS = re.compile(rb"\0*")
# The maximum window; RFC 8878 recommends that decoders support 8 MiB.
_ZSTD_WINDOW = 8 * 2**20
_GZIP_LEVEL = 4
_ZSTD_LEVEL = 3


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body exceeds the limit of {limit} bytes; send fewer documents")


def check_encoding(encoding: str) -> str:
    """Return the normalised Content-Encoding, empty for none. Raises UnsupportedEncoding."""
    name = encoding.strip().lower()
    name = {"x-gzip": "gzip", "identity": ""}.get(name, name)
    if name and name not in ENCODINGS:
        raise UnsupportedEncoding(
            f"Content-Encoding {encoding[:40]!r} is not supported; use gzip, zstd or none"
        )
    return name


async def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress the body; never produces more than `limit` bytes. Raises a RerankError."""
    if not encoding:
        return body
    # Always in a thread, since a small body may decompress to a large one.
    return await asyncio.to_thread(_gunzip if encoding == "gzip" else _unzstd, body, limit)


def _gunzip(body: bytes, limit: int) -> bytes:
    parts: list[bytes] = []
    room, at = limit + 1, 0
    try:
        while at < len(body):
            # A gzip stream may consist of several members.
            member = zlib.decompressobj(wbits=31)
            step = _MIN_STEP
            while not member.eof:
                if at >= len(body):
                    raise MalformedBody("the gzip body is truncated")
                piece = body[at : at + step]
                part = member.decompress(piece, room)
                at += len(piece) - len(member.unused_data)
                if part:
                    parts.append(part)
                    room -= len(part)
                if room <= 0:
                    raise too_large(limit)
                step = min(2 * step, _CHUNK)
            at = _padding_end(body, at)
    except zlib.error as error:
        raise MalformedBody(
            f"the Content-Encoding is gzip, but the body is not valid gzip: {error}"
        ) from None
    return b"".join(parts)


def _padding_end(body: bytes, at: int) -> int:
    """The position after the zeros that may follow a member."""
    found = _ZEROS.match(body, at)
    return found.end() if found else at


def _unzstd(body: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    parts: list[bytes] = []
    size = 0
    try:
        with decompressor.stream_reader(io.BytesIO(body), read_across_frames=True) as reader:
            while part := reader.read(min(_CHUNK, limit + 1 - size)):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise too_large(limit)
    except zstandard.ZstdError as error:
        raise MalformedBody(
            f"the Content-Encoding is zstd, but the body is not valid zstd: {error}"
        ) from None
    return b"".join(parts)


def accepted(header: str) -> str:
    """Return the best encoding that an Accept-Encoding header accepts; empty for none."""
    weights: dict[str, float] = {}
    for part in header.lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = _weight(parameter.strip())
    best = max(ENCODINGS, key=lambda name: weights.get(name, weights.get("*", 0.0)))
    return best if weights.get(best, weights.get("*", 0.0)) > 0 else ""


def _weight(parameter: str) -> float:
    if not parameter.startswith("q="):
        return 1.0
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0


async def encode(content: bytes, accept: str) -> tuple[bytes, dict[str, str]]:
    """Compress the content as the client accepts it; return it with its headers."""
    if len(content) < MIN_BYTES:
        return content, {}
    headers = {"vary": "Accept-Encoding"}
    name = accepted(accept)
    if not name:
        return content, headers
    write = _gzip if name == "gzip" else _zstd
    coded = (
        await asyncio.to_thread(write, content) if len(content) > THREAD_BYTES else write(content)
    )
    return coded, {**headers, "content-encoding": name}


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, _GZIP_LEVEL, mtime=0)


def _zstd(content: bytes) -> bytes:
    coded: bytes = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(content)
    return coded
