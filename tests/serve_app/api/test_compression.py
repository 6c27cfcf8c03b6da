"""Compressed bodies: decompression, rejection, and compression of responses."""

from __future__ import annotations

import contextlib
import gzip
import random
import zlib
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.api import compression
from serve_app.errors import BodyTooLarge, MalformedBody, RerankError, UnsupportedEncoding

LIMIT = 100_000
DECOMPRESSOBJ = zlib.decompressobj


def compressed(content: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(content)
    return zstandard.ZstdCompressor().compress(content) if encoding == "zstd" else content


@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
@settings(deadline=None)
@given(content=st.binary(max_size=3000))
async def test_compressed_bodies_are_decompressed(encoding: str, content: bytes) -> None:
    assert await compression.decode(compressed(content, encoding), encoding, LIMIT) == content


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_decompression_bomb_is_rejected(encoding: str) -> None:
    bomb = compressed(bytes(64 * 2**20), encoding)
    assert len(bomb) < LIMIT
    with pytest.raises(BodyTooLarge):
        await compression.decode(bomb, encoding, LIMIT)
    many = compressed(bytes(LIMIT // 2), encoding) * 3
    with pytest.raises(BodyTooLarge):
        await compression.decode(many, encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_body_of_exactly_the_limit_is_accepted(encoding: str) -> None:
    assert (
        len(await compression.decode(compressed(bytes(LIMIT), encoding), encoding, LIMIT)) == LIMIT
    )
    with pytest.raises(BodyTooLarge):
        await compression.decode(compressed(bytes(LIMIT + 1), encoding), encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_several_members_form_one_body(encoding: str) -> None:
    two = compressed(b"one", encoding) + compressed(b"two", encoding)
    assert await compression.decode(two, encoding, LIMIT) == b"onetwo"


class CountingMember:
    """A gzip member that counts the bytes it is fed and those it copies after its end."""

    bytes = 0

    def __init__(self, wbits: int) -> None:
        self._member = DECOMPRESSOBJ(wbits)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        type(self).bytes += len(data)
        part = self._member.decompress(data, max_length)
        type(self).bytes += len(self._member.unused_data)
        return part

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)


@pytest.mark.parametrize("content", [b"", b"x"])
@pytest.mark.parametrize("padding", [b"", b"\0\0"])
async def test_many_small_members_take_linear_time(
    monkeypatch: pytest.MonkeyPatch, content: bytes, padding: bytes
) -> None:
    monkeypatch.setattr(zlib, "decompressobj", CountingMember)
    members = 5_000
    body = (gzip.compress(content) + padding) * members
    CountingMember.bytes = 0
    assert await compression.decode(body, "gzip", LIMIT) == content * members
    assert CountingMember.bytes < 32 * len(body)


async def test_a_large_member_after_small_ones_is_decompressed() -> None:
    large = random.Random(0).randbytes(50_000)
    body = gzip.compress(b"a") * 3 + b"\0" * 1000 + gzip.compress(large) + b"\0" * 7
    assert await compression.decode(body, "gzip", LIMIT) == b"aaa" + large


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_body_that_does_not_match_its_encoding_is_rejected(encoding: str) -> None:
    with pytest.raises(MalformedBody, match=encoding):
        await compression.decode(b'{"query": "q"}', encoding, LIMIT)


async def test_a_truncated_gzip_body_is_rejected() -> None:
    with pytest.raises(MalformedBody, match="truncated"):
        await compression.decode(compressed(b"x" * 1000, "gzip")[:-9], "gzip", LIMIT)


@settings(deadline=None)
@given(junk=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "zstd"]))
async def test_arbitrary_bytes_decompress_or_raise_an_error(junk: bytes, encoding: str) -> None:
    for body in (junk, compressed(junk, encoding)[: len(junk)], compressed(junk, encoding) + junk):
        with contextlib.suppress(RerankError):
            assert isinstance(await compression.decode(body, encoding, LIMIT), bytes)


def test_encoding_names() -> None:
    names = ["", "identity", "GZIP", " x-gzip", "zstd"]
    assert [compression.check_encoding(name) for name in names] == ["", "", "gzip", "gzip", "zstd"]
    for unknown in ("br", "deflate", "gzip, gzip", "x" * 500):
        with pytest.raises(UnsupportedEncoding):
            compression.check_encoding(unknown)


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("zstd;q=0.5, gzip;q=0.8", "gzip"),
        ("zstd;q=0, gzip;q=0", ""),
        ("*", "zstd"),
        ("*;q=0.1, zstd;q=0", "gzip"),
        ("identity", ""),
        ("gzip;q=x", ""),
    ],
)
def test_accept_encoding_header(accept: str, best: str) -> None:
    assert compression.accepted(accept) == best


async def test_large_responses_are_compressed() -> None:
    assert await compression.encode(b"x" * 100, "gzip") == (b"x" * 100, {})
    for size in (5_000, 500_000):
        content = b"x" * size
        assert await compression.encode(content, "") == (content, {"vary": "Accept-Encoding"})
        coded, headers = await compression.encode(content, "gzip")
        assert headers == {"vary": "Accept-Encoding", "content-encoding": "gzip"}
        assert zlib.decompress(coded, wbits=31) == content
        coded, headers = await compression.encode(content, "zstd")
        assert headers["content-encoding"] == "zstd"
        assert zstandard.ZstdDecompressor().decompress(coded) == content
