"""Calls over HTTP: retries, deadlines, pauses, and one connection over HTTP/2."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

from models.registry import load_remote
from models.remote import transport
from models.remote.errors import RemoteRateLimited, RemoteRefused, RemoteTimeout, RemoteUnavailable
from models.remote.types import RemoteSpec
from tests.models.remote import fake_provider as fake
from tests.models.remote.cases import DOCUMENTS, KEY, spec_of
from tests.models.remote.fake_provider import Reply, as_json


async def test_transient_failures_are_retried_and_retry_after_is_respected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    with fake.serving(fake.cohere) as provider:
        scorer = load_remote(spec_of("cohere", provider.url, retries=3), {"A_KEY": KEY})
        monkeypatch.setattr(scorer._connection.transport, "_sleep", sleep)  # type: ignore[attr-defined]
        limited = as_json({"message": "slow"}, 429, retry_after="2")
        provider.replies = [Reply(500), limited, Reply(503)]
        assert len(await scorer.score("q", DOCUMENTS)) == 5
        assert waited[0] < transport.BACKOFF_S
        assert 2 <= waited[1] <= 2 + 2 * transport.BACKOFF_S
        assert waited[2] < 4 * transport.BACKOFF_S
        wanted = {"calls": 4, "retries": 3, "failures": 2, "rate_limited": 1}
        assert {k: scorer.counts[k] for k in wanted} == wanted

        provider.received.clear()
        provider.replies = [as_json({"message": "no"}, 422)]
        with pytest.raises(RemoteRefused):
            await scorer.score("q", DOCUMENTS)
        assert len(provider.received) == 1, "a rejected request is not retried"

        # Not retried: Retry-After is beyond the deadline.
        provider.received.clear()
        provider.replies = [as_json({"message": "slow"}, 429, retry_after="3600")]
        with pytest.raises(RemoteRateLimited) as caught:
            await scorer.score("q", DOCUMENTS)
        assert (caught.value.retry_after_s, len(provider.received)) == (3600, 1)


async def test_the_deadline_covers_a_slow_answer_and_all_retries() -> None:
    with fake.serving(fake.cohere, delay_s=0.3) as provider:
        scorer = load_remote(spec_of("cohere", provider.url, timeout_s=0.1), {"A_KEY": KEY})
        with pytest.raises(RemoteTimeout, match="timed out"):
            await scorer.score("q", DOCUMENTS)
    with fake.serving(fake.cohere) as provider:
        provider.always = Reply(500, delay_s=0.08)
        spec = spec_of("cohere", provider.url, timeout_s=0.2, retries=50)
        with pytest.raises((RemoteTimeout, RemoteUnavailable)):
            await load_remote(spec, {"A_KEY": KEY}).score("q", DOCUMENTS)
        assert len(provider.received) < 5


async def test_calls_are_paused_after_five_failures_in_a_row() -> None:
    with fake.serving(fake.cohere) as provider:
        spec = spec_of("cohere", provider.url, retries=0)
    scorer = load_remote(spec, {"A_KEY": KEY})
    for _ in range(5):
        with pytest.raises(RemoteUnavailable, match="connection"):
            await scorer.score("q", ["0.5"])
    with pytest.raises(RemoteUnavailable, match="5 times in a row") as caught:
        await scorer.score("q", ["0.5"])
    assert 0 < (caught.value.retry_after_s or 0) <= 10
    assert scorer.counts["calls"] == 5
    assert scorer.counts["breaker_opened"] == 1


async def test_waiting_for_other_calls_does_not_count_against_the_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = spec_of("cohere", "http://127.0.0.1:9", timeout_s=0.2, parallel_calls=1)
    scorer = load_remote(spec, {"A_KEY": KEY})
    hanging = asyncio.Event()

    async def post_once(url: str, content: bytes) -> object:
        await hanging.wait()
        return fake.cohere({"documents": ["0.5"]})

    transport = scorer._connection.transport  # type: ignore[attr-defined]
    monkeypatch.setattr(transport, "_post_once", post_once)
    calls = [scorer.score("q", ["0.5"]) for _ in range(20)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in errors} == {RemoteTimeout}
    waited = [error for error in errors if "parallel calls are in use" in str(error)]
    # One call holds the slot; at most one more gets it in the moment in which all time out.
    assert len(waited) >= 18
    assert 1 <= scorer.counts["failures"] <= scorer.counts["calls"] <= 2
    assert not transport._breaker.is_open
    hanging.set()
    assert len(await scorer.score("q", ["0.5"])) == 1
    await scorer.close()


x509 = pytest.importorskip("cryptography.x509")


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate", folder / "key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


class Http2Provider:
    """Answers every request as Cohere does, over HTTP/2."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        bodies: dict[int, bytes] = {}
        while True:
            writer.write(connection.data_to_send())
            received = await reader.read(65536)
            if not received:
                break
            for event in connection.receive_data(received):
                if isinstance(event, RequestReceived):
                    assert dict(event.headers)["authorization"] == "Bearer a-key"
                    bodies[event.stream_id] = b""
                elif isinstance(event, DataReceived):
                    bodies[event.stream_id] += event.data
                    connection.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                elif isinstance(event, StreamEnded):
                    self.requests += 1
                    answer = json.dumps(fake.cohere(json.loads(bodies[event.stream_id]))).encode()
                    connection.send_headers(event.stream_id, [(":status", "200")])
                    connection.send_data(event.stream_id, answer, end_stream=True)
        writer.close()


async def test_concurrent_calls_share_one_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    provider = Http2Provider()
    server = await asyncio.start_server(provider, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    spec = RemoteSpec("m", "cohere", "x", base_url=f"https://127.0.0.1:{port}", max_documents=5)
    scorer = load_remote(spec, {"COHERE_API_KEY": "a-key"})
    await scorer.score("q", ["0.5 first"])
    scores = await scorer.score("q", [f"{i / 40} more" for i in range(40)])
    await scorer.close()
    server.close()
    assert [s.logit for s in scores] == [i / 40 for i in range(40)]
    assert (provider.connections, provider.requests) == (1, 9)
