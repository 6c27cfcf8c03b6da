"""Images by URL, fetched from a local server, and image documents in requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from models.images import ImageDocument
from serve_app.api.dialects import NATIVE, Limits
from serve_app.errors import InvalidRequest
from serve_app.service import images
from serve_app.service.images import ImageFetcher
from tests.local_server import QuietHandler, serving
from tests.serve_app.fakes import WordOverlap, make_service

PAGES = {
    "/cat.png": (200, "image/png", b"the bytes of a cat"),
    "/page": (200, "text/html", b"<html>"),
    "/gone": (404, "image/png", b""),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send(302, b"", location="/cat.png")
                return
            status, kind, content = PAGES[self.path]
            self.send(status, content, content_type=kind)

    with serving(Handler) as address:
        yield address


@pytest.fixture
async def fetcher() -> AsyncIterator[ImageFetcher]:
    opened = ImageFetcher()
    yield opened
    await opened.close()


async def test_urls_are_replaced_by_data_uris(fetcher: ImageFetcher, url: str) -> None:
    given = ["a text", ImageDocument(f"{url}/cat.png", "cat"), ImageDocument(f"{url}/moved")]
    text, cat, moved = await fetcher.resolve(given)
    uri = "data:image/png;base64,dGhlIGJ5dGVzIG9mIGEgY2F0"
    assert (text, cat, moved) == ("a text", ImageDocument(uri, "cat"), ImageDocument(uri))
    assert await fetcher.resolve([cat]) == (cat,)


@pytest.mark.parametrize(
    ("path", "match"),
    [("/page", "text/html, not an image"), ("/gone", "404"), ("/cat.png", "larger than 5 bytes")],
)
async def test_a_failed_fetch_names_the_document(
    fetcher: ImageFetcher, url: str, path: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 5)
    with pytest.raises(InvalidRequest, match=rf"documents\[1\].*{match}"):
        await fetcher.resolve(["d", ImageDocument(url + path)])


async def test_an_unreachable_server_names_the_document(fetcher: ImageFetcher) -> None:
    with pytest.raises(InvalidRequest, match=r"documents\[0\]"):
        await fetcher.resolve([ImageDocument("http://127.0.0.1:9/cat.png")])


@pytest.mark.parametrize(
    ("image", "allowed", "match"),
    [
        ("http://x/cat.png", False, "does not fetch"),
        ("ftp://x/cat.png", True, "must be a data URI"),
        (3, True, "must be a data URI"),
        ("data:text/html;base64,AA", True, "must be a data URI"),
    ],
)
def test_invalid_images_are_refused(image: object, allowed: bool, match: str) -> None:
    body = {"query": "q", "documents": ["d", {"image": image}]}
    with pytest.raises(InvalidRequest, match=rf"documents\[1\]\.image .*{match}"):
        NATIVE.parse(body, Limits(image_urls=allowed))


def test_images_are_accepted_with_and_without_text() -> None:
    uri = "data:image/png;base64,AAAA"
    sent = [{"image": uri}, {"image": uri, "text": "a cat"}, {"text": "t", "image": None}]
    request = NATIVE.parse({"query": "q", "documents": sent}, Limits())
    assert request.documents == (ImageDocument(uri), ImageDocument(uri, "a cat"), "t")
    assert request.originals == tuple(sent)


async def test_the_service_closes_the_connections_of_its_fetcher() -> None:
    fetcher = ImageFetcher()
    service = make_service(WordOverlap(), images=fetcher)
    await service.close()
    assert fetcher._client.is_closed
