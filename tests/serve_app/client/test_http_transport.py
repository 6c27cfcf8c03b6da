"""HTTP requests: bodies, headers, routes, timeouts and HTTP/2."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

from serve_app.client import AsyncReranker, Retry, TokenUsageTracker, TookTooLong
from serve_app.client.http_transport import route
from tests.serve_app.client.scripted_servers import Server


async def test_request_body_and_headers() -> None:
    server = Server()
    client = server.client(model="m1", api_key="k", extra_body={"user": "u"}, headers={"x-a": "b"})
    await client.rerank(
        "q",
        ["1", "2"],
        instruction="i",
        max_tokens_per_doc=9,
        long_document="truncate",
        query_image_url="https://pictures.example/q.png",
    )
    assert server.bodies == [
        {
            "query": "q",
            "documents": ["1", "2"],
            "return_documents": False,
            "model": "m1",
            "instruction": "i",
            "max_tokens_per_doc": 9,
            "long_document": "truncate",
            "query_image_url": "https://pictures.example/q.png",
            "user": "u",
        }
    ]
    assert (server.headers[0]["authorization"], server.headers[0]["x-a"]) == ("Bearer k", "b")


async def test_a_silent_server_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    never = Retry(attempts=0)
    url = f"http://127.0.0.1:{port}"
    async with AsyncReranker(url, timeout_s=0.2, retry=never, track_tokens=False) as client:
        with pytest.raises(TookTooLong, match=r"0\.2 s"):
            await client.score("q", "d")
    server.close()


def test_the_rerank_route_is_derived_from_the_base_url() -> None:
    assert route("http://a") == route("http://a/") == route("http://a/rerank") == "http://a/rerank"
    assert route("https://api.jina.ai/v1") == "https://api.jina.ai/v1/rerank"


ANSWER = json.dumps({"results": [{"index": 0, "score": 0.5}]}).encode()
HEADERS = [(":status", "200"), ("content-type", "application/json")]


class Http2Server:
    """Answers every request the same way; records connections and paths."""

    def __init__(self) -> None:
        self.connections = 0
        self.paths: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, RequestReceived):
                    self.paths.append(dict(event.headers)[":path"])
                elif isinstance(event, StreamEnded):
                    connection.send_headers(event.stream_id, HEADERS)
                    connection.send_data(event.stream_id, ANSWER, end_stream=True)
            writer.write(connection.data_to_send())
        writer.close()


def certificate(folder: Path) -> Path:
    """Write a certificate for 127.0.0.1 and its key to one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(place, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "server.pem"
    file.write_bytes(key.private_bytes(pem, *plain) + made.public_bytes(pem))
    return file


async def test_requests_share_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    seen = Http2Server()
    server = await asyncio.start_server(seen, "127.0.0.1", 0, ssl=context)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with AsyncReranker(url, tracker=TokenUsageTracker()) as client:
        found = await client.rerank("q", [str(n) for n in range(20)], batch_size=1)
    server.close()
    assert found.requests == 20
    assert seen.paths == ["/rerank"] * 20
    assert seen.connections == 1
