"""Headers that Ray Serve reads: one valid request ID, and nothing that it cannot decode."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from ray.serve._private.http_util import (
    RequestIdMiddleware,
    parse_disconnect_disabled_header,
    parse_request_timeout_header,
    parse_session_id_header,
)
from starlette.types import Receive, Scope, Send

from serve_app.api.request_headers import CleanHeaders, cleaned, middleware
from tests.serve_app.api.fakes import QUERY, TEXTS
from tests.serve_app.fakes import FakeFrontend

BYTES = b"caf\xe9"
NEW = re.compile(rb"[0-9a-f]{32}")


def ids(*sent: bytes) -> list[bytes]:
    headers = cleaned([(b"x-request-id", value) for value in sent])
    return [value for name, value in headers if name == b"x-request-id"]


@pytest.mark.parametrize("value", [b"a", b"x" * 128, b"id with a space", b"7-4_%"])
def test_a_valid_id_is_kept(value: bytes) -> None:
    assert ids(value) == [value]


@pytest.mark.parametrize(
    "sent",
    [
        (),
        (b"",),
        (b"x" * 129,),
        (b"x" * 50_000,),
        (BYTES,),
        ("caf\u00e9".encode(),),
        (b"a\x7f",),
        (b"a\tb",),
    ],
)
def test_a_missing_or_invalid_id_is_replaced(sent: tuple[bytes, ...]) -> None:
    (found,) = ids(*sent)
    assert NEW.fullmatch(found)
    assert ids(*sent) != [found]


def test_the_first_valid_one_of_several_ids_is_kept() -> None:
    assert ids(BYTES, b"first", b"second") == [b"first"]
    assert [v for _, v in cleaned([(b"X-Request-ID", b"a"), (b"x-request-id", b"b")])] == [b"a"]


@pytest.mark.parametrize(
    "name",
    [
        b"serve_multiplexed_model_id",
        b"Serve-Multiplexed-Model-Id",
        b"x-session-id",
        b"x_session_id",
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"traceparent",
        b"tracestate",
    ],
)
def test_other_headers_of_ray_are_dropped_only_if_it_cannot_read_them(name: bytes) -> None:
    for value in (BYTES, b"\xff", b"x" * 513):
        assert [n for n, _ in cleaned([(name, value)])] == [b"x-request-id"]
    assert cleaned([(name, b"10")])[0] == (name, b"10")


def test_headers_that_only_the_service_reads_are_kept() -> None:
    sent = [(b"authorization", b"Bearer " + BYTES), (b"x-mine", b"x" * 9000), (b"host", b"a")]
    assert cleaned(sent)[:-1] == sent


async def test_ray_can_read_what_is_left() -> None:
    names = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"x-session-id")
    scope: dict[str, Any] = {
        "type": "http",
        "headers": [(name, BYTES) for name in (*names, b"x-request-id")],
    }
    seen: list[Scope] = []

    async def rays(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        headers[b"x-request-id"].decode("utf-8")
        assert parse_request_timeout_header(headers, 3.0) == 3.0
        assert not parse_disconnect_disabled_header(headers)
        assert parse_session_id_header(headers) == ""
        seen.append(scope)

    async def unused(*_: Any) -> Any:
        raise AssertionError

    (ours,) = middleware()
    assert ours.cls is CleanHeaders
    await ours.cls(rays)(scope, unused, unused)
    assert len(seen) == 1


@pytest.mark.parametrize("sent", [b"mine", b"x" * 200, BYTES], ids=["valid", "long", "not ASCII"])
@pytest.mark.parametrize("documents", [TEXTS, []], ids=["answer", "error"])
async def test_header_and_body_have_the_same_id_behind_ray(
    sent: bytes, documents: list[str]
) -> None:
    front = FakeFrontend()
    front.sets_request_id = False  # as in the ingress
    inner = front.app()
    app = CleanHeaders(RequestIdMiddleware(inner))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post(
            "/rerank",
            json={"query": QUERY, "documents": documents},
            headers=httpx.Headers([(b"x-request-id", sent)]),
        )
    (request_id,) = answer.headers.get_list("x-request-id")
    assert (request_id == "mine") == (sent == b"mine")
    assert len(request_id) <= 128
    if not documents:
        assert answer.json()["request_id"] == request_id
