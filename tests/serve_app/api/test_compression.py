"""Compressed bodies: what is read, what is refused, what is answered."""

from __future__ import annotations

import contextlib
import gzip
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.api import compression
from serve_app.errors import BodyTooLarge, MalformedBody, RerankError, UnsupportedEncoding

LIMIT = 100_000


def packed(content: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(content)
    return zstandard.ZstdCompressor().compress(content) if encoding == "zstd" else content


@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
@settings(deadline=None)
@given(content=st.binary(max_size=3000))
async def test_what_was_packed_is_unpacked(encoding: str, content: bytes) -> None:
    assert await compression.decode(packed(content, encoding), encoding, LIMIT) == content


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_bomb_is_refused_before_it_is_unpacked(encoding: str) -> None:
    bomb = packed(bytes(64 * 2**20), encoding)
    assert len(bomb) < LIMIT
    with pytest.raises(BodyTooLarge):
        await compression.decode(bomb, encoding, LIMIT)
    many = packed(bytes(LIMIT // 2), encoding) * 3
    with pytest.raises(BodyTooLarge):
        await compression.decode(many, encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_the_limit_itself_is_read(encoding: str) -> None:
    assert len(await compression.decode(packed(bytes(LIMIT), encoding), encoding, LIMIT)) == LIMIT
    with pytest.raises(BodyTooLarge):
        await compression.decode(packed(bytes(LIMIT + 1), encoding), encoding, LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_several_members_are_one_body(encoding: str) -> None:
    two = packed(b"one", encoding) + packed(b"two", encoding)
    assert await compression.decode(two, encoding, LIMIT) == b"onetwo"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_a_body_that_is_not_what_it_says(encoding: str) -> None:
    with pytest.raises(MalformedBody, match=encoding):
        await compression.decode(b'{"query": "q"}', encoding, LIMIT)


async def test_a_cut_gzip_body() -> None:
    with pytest.raises(MalformedBody, match="truncated"):
        await compression.decode(packed(b"x" * 1000, "gzip")[:-9], "gzip", LIMIT)


@settings(deadline=None)
@given(junk=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "zstd"]))
async def test_any_bytes_give_bytes_or_an_error(junk: bytes, encoding: str) -> None:
    for body in (junk, packed(junk, encoding)[: len(junk)], packed(junk, encoding) + junk):
        with contextlib.suppress(RerankError):
            assert isinstance(await compression.decode(body, encoding, LIMIT), bytes)


def test_names_of_encodings() -> None:
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
def test_what_a_client_takes(accept: str, best: str) -> None:
    assert compression.accepted(accept) == best


async def test_answers_are_packed_where_it_pays() -> None:
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
