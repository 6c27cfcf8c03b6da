"""Images by URL, fetched from a local server, and image documents in requests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpcore
import pytest

from models.images import ImageDocument
from models.types import Document
from serve_app.api.dialects import NATIVE, Limits
from serve_app.errors import InvalidRequest, Overloaded, RerankError
from serve_app.pipeline_spec import Pipeline
from serve_app.service import images
from serve_app.service.admission import Admission
from serve_app.service.cache import MemoryStore
from serve_app.service.catalog import Catalog
from serve_app.service.images import ImageFetcher
from serve_app.service.rerank import RerankService
from serve_app.telemetry import Telemetry
from tests.local_server import QuietHandler, serving
from tests.serve_app.fakes import WordOverlap, ask, make_service, named
from tests.waiting import until

CAT = b"the bytes of a cat"
CAT_URI = "data:image/png;base64,dGhlIGJ5dGVzIG9mIGEgY2F0"
PAGES = {
    "/cat.png": (200, "image/png", CAT),
    "/page": (200, "text/html", b"<html>"),
    "/gone": (404, "image/png", b""),
    "/failing": (500, "image/png", b""),
}


class Server:
    """What the local server was asked, and its address."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hosts: list[str | None] = []
        self.address = ""
        self.port = 0
        self.over = threading.Event()


@pytest.fixture
def server() -> Iterator[Server]:
    seen = Server()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            seen.asked.append(self.path)
            seen.hosts.append(self.headers["host"])
            page, _, query = self.path.partition("?")
            if page == "/moved":
                self.send(302, b"", location=query or "/cat.png")
            elif page == "/dripping":
                self.send(200, b"a", content_type="image/png", content_length="5")
                seen.over.wait(30)
            else:
                status, kind, content = PAGES[page]
                self.send(status, content, content_type=kind)

    with serving(Handler) as address:
        seen.address = address
        seen.port = int(address.rsplit(":", 1)[1])
        yield seen
        seen.over.set()


@pytest.fixture
async def fetcher() -> AsyncIterator[ImageFetcher]:
    opened = ImageFetcher(Admission(4, 4, 1.0), ["127.0.0.1/32"])
    yield opened
    await opened.close()


async def fetched(fetcher: ImageFetcher, *documents: Document) -> tuple[Document, ...]:
    async with fetcher.request(ask(*documents)) as one:
        return await one.fetch(documents)


async def test_urls_are_replaced_by_data_uris(fetcher: ImageFetcher, server: Server) -> None:
    url = server.address
    given = ["a text", ImageDocument(f"{url}/cat.png", "cat"), ImageDocument(f"{url}/moved")]
    text, cat, moved = await fetched(fetcher, *given)
    assert (text, cat, moved) == ("a text", ImageDocument(CAT_URI, "cat"), ImageDocument(CAT_URI))
    assert await fetched(fetcher, cat) == (cat,)
    assert fetcher.held_bytes == 0


async def test_a_failed_fetch_names_the_document_and_no_reason(
    fetcher: ImageFetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", len(CAT) - 1)
    unused = "http://127.0.0.1:9"
    texts = set()
    for url in (
        f"{server.address}/page",
        f"{server.address}/gone",
        f"{server.address}/failing",
        f"{server.address}/cat.png",  # too large
        f"{server.address}/moved?ftp://127.0.0.1/cat.png",
        f"{server.address}/moved?/moved",  # for ever
        f"{unused}/cat.png",
        "http://169.254.169.254/latest/meta-data",
        "http://no-such-host.invalid/cat.png",
        "http://[::1]:1/cat.png",
        "http://",
        "http://127.0.0.1:70000/",
    ):
        with pytest.raises(InvalidRequest) as failure:
            await fetched(fetcher, "d", ImageDocument(url))
        assert failure.value.param == "documents[1].image"
        texts.add(failure.value.message)
    assert len(texts) == 1
    assert texts.pop().startswith("documents[1].image cannot be fetched")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0.0.0.0", "127.1", "2130706433"])
async def test_a_redirect_to_this_machine_is_refused(server: Server, host: str) -> None:
    fetcher = ImageFetcher(Admission(4, 4, 1.0), ["localhost."])
    url = f"http://LOCALHOST:{server.port}"
    try:
        assert await fetched(fetcher, ImageDocument(f"{url}/moved")) == (ImageDocument(CAT_URI),)
        server.asked.clear()
        moved = ImageDocument(f"{url}/moved?http://{host}:{server.port}/cat.png")
        with pytest.raises(InvalidRequest):
            await fetched(fetcher, moved)
        assert len(server.asked) == 1
    finally:
        await fetcher.close()


async def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    fetcher: ImageFetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["127.0.0.1", "127.0.0.2"]

    def changing(host: str, port: int, **kind: Any) -> list[Any]:
        address = answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", changing)
    url = f"http://rebinding.example:{server.port}/cat.png"
    assert await fetched(fetcher, ImageDocument(url)) == (ImageDocument(CAT_URI),)
    assert answers == ["127.0.0.2"]
    assert server.hosts == [f"rebinding.example:{server.port}"]
    with pytest.raises(InvalidRequest):
        await fetched(fetcher, ImageDocument(url.replace("rebinding", "second")))


async def test_tls_verifies_the_name_of_the_url(
    fetcher: ImageFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 18\r\n\r\n"
    verified, connected = [], []

    class Stream(httpcore.AsyncMockStream):
        async def start_tls(
            self, ssl_context: Any, server_hostname: str | None = None, *args: Any, **more: Any
        ) -> httpcore.AsyncNetworkStream:
            assert ssl_context.check_hostname
            verified.append(server_hostname)
            return self

    async def connect(self: object, host: str, *args: Any) -> httpcore.AsyncNetworkStream:
        connected.append(host)
        return Stream([content, CAT])

    def resolve(host: str, port: int, **kind: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    await fetched(fetcher, ImageDocument("https://images.example/cat.png"))
    assert (connected, verified) == (["127.0.0.1"], ["images.example"])


async def test_nothing_is_fetched_after_a_failure(fetcher: ImageFetcher, server: Server) -> None:
    urls = [f"{server.address}/gone?{i}" for i in range(200)]
    with pytest.raises(InvalidRequest):
        await fetched(fetcher, *map(ImageDocument, urls))
    assert len(server.asked) <= 3 * images.MAX_PARALLEL


async def test_an_image_is_fetched_once(fetcher: ImageFetcher, server: Server) -> None:
    url = f"{server.address}/cat.png"
    async with fetcher.request(ask("d")) as one:
        both = [ImageDocument(url, "a"), ImageDocument(url, "b")]
        first, again = await asyncio.gather(one.fetch(both), one.fetch(both))
    assert first == again == (ImageDocument(CAT_URI, "a"), ImageDocument(CAT_URI, "b"))
    assert server.asked == ["/cat.png"]


async def test_a_dripping_server_is_left_in_time(
    fetcher: ImageFetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "TIMEOUT_S", 0.05)
    with pytest.raises(InvalidRequest, match=r"documents\[0\]"):
        await fetched(fetcher, ImageDocument(f"{server.address}/dripping"))
    monkeypatch.setattr(images, "TIMEOUT_S", 30)
    monkeypatch.setattr(images, "REQUEST_TIMEOUT_S", 0.05)
    with pytest.raises(InvalidRequest, match=r"within 0\.05 s"):
        await fetched(fetcher, ImageDocument(f"{server.address}/dripping"))
    assert fetcher.held_bytes == 0


async def test_a_request_is_bounded_in_images_and_bytes(
    fetcher: ImageFetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [ImageDocument(f"{server.address}/cat.png?{i}") for i in range(4)]
    monkeypatch.setattr(images, "MAX_IMAGES", 3)
    with pytest.raises(InvalidRequest, match="at most 3 images"):
        await fetched(fetcher, *urls)
    assert server.asked == []
    monkeypatch.setattr(images, "MAX_IMAGES", 4)
    monkeypatch.setattr(images, "MAX_REQUEST_BYTES", 3 * len(CAT))
    with pytest.raises(InvalidRequest, match="bytes in all"):
        await fetched(fetcher, *urls)
    assert len(await fetched(fetcher, *urls[:3])) == 3


async def test_all_requests_together_are_bounded_in_bytes(
    fetcher: ImageFetcher, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_HELD_BYTES", 2 * len(CAT))
    one = ImageDocument(f"{server.address}/cat.png")
    async with fetcher.request(ask(one)) as first, fetcher.request(ask(one)) as second:
        await first.fetch([one])
        await second.fetch([one])
        assert fetcher.held_bytes == 2 * len(CAT)
        with pytest.raises(Overloaded):
            await fetched(fetcher, one)
    assert fetcher.held_bytes == 0
    await fetched(fetcher, one)


async def test_a_full_queue_refuses_before_anything_is_fetched(server: Server) -> None:
    admission = Admission(1, 0, 1.0)
    fetcher = ImageFetcher(admission, ["127.0.0.1"])
    one = ImageDocument(f"{server.address}/cat.png")
    async with admission.slot():
        with pytest.raises(Overloaded):
            await fetched(fetcher, one)
    assert server.asked == []
    await fetched(fetcher, one)
    await fetcher.close()


async def test_a_bounded_number_of_requests_fetch_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_FETCHING", 1)
    fetcher = ImageFetcher(Admission(4, 0, 1.0), ["127.0.0.1"])
    dripping = ImageDocument(f"{server.address}/dripping")
    first = asyncio.create_task(fetched(fetcher, dripping))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(fetcher.close)
        await until(lambda: bool(server.asked))
        with pytest.raises(Overloaded):
            await fetched(fetcher, dripping)
        first.cancel()
        await asyncio.wait([first])


def service_with(reader: WordOverlap, *stages: dict[str, Any]) -> RerankService:
    pipeline = Pipeline.model_validate({"stages": stages})
    return RerankService(
        catalog=Catalog(("words", "reader", "p"), "words", {}),
        replicas={"words": named("words"), "reader": reader},
        store=MemoryStore(2**20, 60),
        admission=Admission(4, 4, 1.0),
        telemetry=Telemetry(),
        image_hosts=["127.0.0.1"],
        pipelines={"p": pipeline},
    )


def pictures(server: Server, count: int) -> list[ImageDocument]:
    texts = ["a b c", "a b", "a", *[""] * count][:count]
    return [ImageDocument(f"{server.address}/cat.png?{i}", t) for i, t in enumerate(texts)]


async def test_models_without_images_fetch_none(server: Server) -> None:
    service = service_with(named("reader"), {"rerank": "words"}, {"rerank": "reader"})
    for model in ("words", "p"):
        with pytest.raises(RerankError, match="accepts text only"):
            await service.rerank(ask(*pictures(server, 3), model=model))
    assert server.asked == []
    await service.close()


async def test_a_pipeline_fetches_what_reaches_a_model_that_reads_images(server: Server) -> None:
    reader = named("reader", takes_images=True)
    service = service_with(reader, {"rerank": "bm25", "keep": 2}, {"rerank": "reader"})
    result = await service.rerank(ask(*pictures(server, 3), "a b c d", model="p"))
    assert result.results[0].document.data_uri.startswith("http")
    assert sorted(server.asked) == ["/cat.png?0", "/cat.png?1"]
    await service.close()


async def test_a_failed_image_of_a_stage_is_named_by_its_place_in_the_request(
    server: Server,
) -> None:
    reader = named("reader", takes_images=True)
    service = service_with(reader, {"rerank": "bm25", "keep": 1}, {"rerank": "reader"})
    found = ImageDocument(f"{server.address}/gone", "pandas eat bamboo")
    request = ask("the sea", "the sun", found, query="bamboo", model="p")
    with pytest.raises(InvalidRequest, match=r"documents\[2\]\.image"):
        await service.rerank(request)
    await service.close()


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


async def test_the_service_closes_the_connections_of_its_images(server: Server) -> None:
    backend = WordOverlap()
    backend.info_ = replace(backend.info_, takes_images=True)
    service = make_service(backend, image_hosts=["127.0.0.1"])
    result = await service.rerank(ask(ImageDocument(f"{server.address}/cat.png", "a b")))
    assert result.results[0].logit == 2
    pool = service._images._pool
    assert pool is not None
    assert len(pool.connections) == 1
    await service.close()
    assert pool.connections == []
