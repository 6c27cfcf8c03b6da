"""Keys, limits, CORS and usage in the real ASGI application, without Ray."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serve_app.access import KeyRing
from serve_app.api.app import make_app
from serve_app.telemetry import MAX_KEY_NAMES, OTHER_KEYS, Telemetry, merge, to_json, to_prometheus
from tests.serve_app.fakes import INFO, Clock, FakeFrontend
from tests.waiting import until

BODY = {"query": "a b", "documents": ["a b", "x"]}
ENTRIES = (
    "first-key name=one rpm=2",
    "second-key name=two",
    "slow-key name=slow tpm=10",
    "ops-key name=ops role=operator",
)


def guarded(**more: Any) -> FakeFrontend:
    return FakeFrontend(ring=KeyRing(ENTRIES), **more)


async def send(
    front: FakeFrontend,
    key: str | None = None,
    path: str = "/v1/rerank",
    body: Any = BODY,
    **headers: str,
) -> httpx.Response:
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    async with front.client() as client:
        if body is None:
            return await client.get(path, headers=headers)
        return await client.post(path, json=body, headers=headers)


async def test_without_keys_every_request_is_admitted() -> None:
    answer = await send(FakeFrontend())
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v1/models", "/metrics", "/nothing"])
@pytest.mark.parametrize("key", [None, "wrong", "first-key ", "FIRST-KEY", ""])
async def test_a_missing_or_wrong_key_is_401_in_the_dialects_format(
    path: str, key: str | None
) -> None:
    if key == "first-key ":
        key = "first-key x"
    front = guarded()
    answer = await send(front, key, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    problem = answer.json()
    request_id = answer.headers["x-request-id"]
    if path.startswith("/v1/"):
        assert (problem["id"], problem["code"]) == (request_id, "unauthorized")
        assert problem["message"] == problem["detail"]
    else:
        assert problem["request_id"] == request_id
        assert problem["error"]["code"] == "unauthorized"
    assert front.backend.rows == 0
    assert front.in_flight == 0


@pytest.mark.parametrize("path", ["/health", "/ready", "/docs", "/openapi.json"])
async def test_probes_and_open_routes_need_no_key(path: str) -> None:
    assert (
        await send(guarded(open_routes=("/docs", "/openapi.json")), None, path, None)
    ).is_success
    closed = await send(guarded(), None, path, None)
    assert closed.is_success == (path in ("/health", "/ready"))


async def test_a_root_path_opens_only_the_open_routes() -> None:
    transport = httpx.ASGITransport(make_app(guarded), root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/api/health")).status_code == 200
        assert (await client.get("/api/metrics")).status_code == 401
        assert (await client.get("/health/../metrics")).status_code == 401
        assert (await client.get("/api/health/api/metrics")).status_code == 401


async def test_an_open_route_is_open_only_for_reading() -> None:
    front = guarded(open_routes=("/v1/rerank", "/metrics"))
    assert (await send(front)).status_code == 401
    assert (await send(front, None, "/metrics", None)).status_code == 200
    assert (await send(front, None, "/metrics/", None)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer second-key"},
        {"Authorization": "bearer   second-key"},
        {"authorization": "Token second-key"},
        {"authorization": "second-key"},
        {"x-api-key": "second-key"},
        {"X-API-KEY": " second-key"},
        {"api-key": "second-key"},
        {"authorization": "Bearer someone-elses", "Api-Key": "second-key"},
    ],
    ids=str,
)
async def test_every_supported_header_carries_the_key(headers: dict[str, str]) -> None:
    async with guarded().client(**headers) as client:
        assert (await client.post("/rerank", json=BODY)).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xfe\x80",
        "Bearer schlüssel".encode(),
        b"Bearer " + b"k" * 60_000,
        b"\0",
        b"Bearer\xa0",
    ],
    ids=["bytes", "umlaut", "huge", "nul", "no-break space"],
)
async def test_arbitrary_bytes_as_key_are_401(value: bytes) -> None:
    async with guarded().client() as client:
        answer = await client.post("/rerank", json=BODY, headers=[(b"authorization", value)])
    assert answer.status_code == 401
    assert value[:30] not in answer.content


async def test_too_many_requests_are_429_until_retry_after_has_passed() -> None:
    clock = Clock()
    front = guarded(clock=clock)
    first, second, third = [await send(front, "first-key") for _ in range(3)]
    assert (first.status_code, second.status_code, third.status_code) == (200, 200, 429)
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert third.headers["x-ratelimit-remaining"] == "0"
    assert third.headers["x-ratelimit-reset"] == "60"
    assert third.json()["code"] == "rate_limited"
    assert third.json()["id"] == third.headers["x-request-id"]
    assert third.headers["retry-after"] == "30"
    assert (await send(front, "second-key")).status_code == 200
    read = await send(front, "first-key", "/v1/models", None)
    assert read.headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 30
    assert (await send(front, "first-key")).status_code == 200


async def test_the_scored_tokens_are_charged() -> None:
    clock = Clock()
    front = guarded(clock=clock)
    answer = await send(front, "slow-key")
    assert answer.headers["x-ratelimit-remaining-tokens"] == "7"
    again = await send(front, "slow-key")
    assert again.headers["x-ratelimit-remaining-tokens"] == "7", (
        "scores from the score store are free"
    )
    many = {"query": "q", "documents": [f"w{i} " * 10 for i in range(3)]}
    large = await send(front, "slow-key", body=many)
    assert large.status_code == 200, "a request larger than the limit is admitted once"
    assert large.headers["x-ratelimit-remaining-tokens"] == "0"
    refused = await send(front, "slow-key", path="/rerank")
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limited"
    assert refused.headers["retry-after"] == "144", "23 tokens of debt plus 1, at 10 per minute"
    clock.now += 144
    assert (await send(front, "slow-key")).status_code == 200


async def test_concurrent_requests_do_not_spend_the_same_tokens() -> None:
    front = guarded(clock=Clock())
    front.backend.gate.clear()
    jobs = [
        asyncio.create_task(
            send(front, "slow-key", body={"query": "q", "documents": [f"{i} " * 50]})
        )
        for i in range(4)
    ]
    await until(lambda: sum(job.done() for job in jobs) == 3)
    front.backend.gate.set()
    assert sorted([(await job).status_code for job in jobs]) == [200, 429, 429, 429]


async def test_a_failed_request_costs_no_tokens_but_counts_as_a_request() -> None:
    front = guarded(clock=Clock())
    front.backend.failures = [RuntimeError("gone")] * 9
    failed = await send(front, "slow-key")
    assert failed.status_code == 503
    assert failed.headers["x-ratelimit-remaining-tokens"] == "10"
    await send(front, "first-key", body={"query": 1})
    wrong = await send(front, "first-key", body=[])
    assert wrong.status_code == 400
    assert wrong.headers["x-ratelimit-remaining-requests"] == "0"


TWO = {"query": "q", "documents": ["one two three", "four five six seven"]}


async def remaining(front: FakeFrontend) -> str:
    answer = await send(front, "slow-key", "/v1/models", None)
    remaining: str = answer.headers["x-ratelimit-remaining-tokens"]
    return remaining


async def test_a_cancelled_request_pays_for_what_a_model_was_scoring() -> None:
    front = guarded(clock=Clock())
    front.backend.gate.clear()
    waiting = asyncio.create_task(send(front, "slow-key", body=TWO))
    await until(lambda: bool(front.backend.timeouts))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: front.backend.cancelled == 1)
    assert await remaining(front) == "1", "34 characters of two pairs are estimated as 9 tokens"


async def test_a_request_cancelled_in_the_queue_pays_nothing() -> None:
    front = guarded(clock=Clock())
    front.service._admission.active = front.service._admission.max_parallel
    waiting = asyncio.create_task(send(front, "slow-key", body=TWO))
    await until(lambda: front.service._admission.waiting == 1)
    assert await remaining(front) == "1", "the estimate is reserved meanwhile"
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await remaining(front) == "10"


async def test_a_request_that_times_out_pays_for_the_chunks_that_were_scored() -> None:
    front = FakeFrontend(ring=KeyRing(("slow-key name=slow tpm=1000",)), clock=Clock())
    score = front.backend.score

    async def second_hangs(query: str, documents: list[Any], *more: Any) -> list[Any]:
        if "four five six seven" in documents:
            await asyncio.Event().wait()
        return await score(query, documents, *more)

    front.backend.score = second_hangs  # type: ignore[method-assign]
    # One chunk of 128 documents, and one of the longest document.
    documents = [*(f"w{i}" for i in range(128)), "four five six seven"]
    body = {"query": "q", "documents": documents}
    late = await send(front, "slow-key", body=body, **{"x-request-timeout-ms": "200"})
    assert late.status_code == 504
    assert await remaining(front) == "867", "128 tokens of one chunk, 5 estimated of the other"


async def test_without_keys_all_clients_share_the_limits() -> None:
    front = FakeFrontend(rpm=1, clock=Clock())
    assert [(await send(front)).status_code for _ in range(2)] == [200, 429]


async def test_default_limits_apply_to_keys_without_limits() -> None:
    front = guarded(rpm=1, clock=Clock())
    assert [(await send(front, "second-key")).status_code for _ in range(2)] == [200, 429]
    assert [(await send(front, "first-key")).status_code for _ in range(2)] == [200, 200]


async def test_usage_is_counted_by_key_and_shown_only_to_its_owner() -> None:
    front = guarded(clock=Clock())
    for key in ("first-key", "second-key", "second-key", "wrong"):
        await send(front, key)
    await send(front, "first-key", body={})
    await send(front, "first-key")
    own = (await send(front, "first-key", "/v1/usage", None)).json()
    assert own == {
        "object": "usage",
        "key": "one",
        "requests": 3,
        "documents": 2,
        "tokens": 3,
        "cached_tokens": 0,
        "errors": 2,
        "models": [
            {
                "model": "words",
                "queries": 1,
                "documents": 2,
                "tokens": 3,
                "cached_tokens": 0,
                "cost": None,
            }
        ],
        "cost": None,
        "limits": {"requests_per_minute": 2, "tokens_per_minute": None},
    }
    assert (await send(front, None, "/v1/usage", None)).status_code == 401
    metrics = (await send(front, "ops-key", "/metrics", None)).json()
    assert metrics["usage_by_key"]["two"]["cached_tokens"] == 6
    assert set(metrics["usage_by_key"]) == {"one", "two"}
    assert metrics["responses_by_dialect"]["v1"]["401"] == 2


@pytest.mark.parametrize("accept", ["application/json", "text/plain"])
async def test_only_an_operator_reads_the_metrics_of_all_clients(accept: str) -> None:
    front = guarded()
    await send(front, "first-key")
    refused = await send(front, "second-key", "/metrics", None, accept=accept)
    assert refused.status_code == 403
    assert "/v1/usage" in refused.json()["error"]["message"]
    assert "one" not in refused.text
    assert refused.json()["error"]["code"] == "forbidden"
    assert '"one"' in (await send(front, "ops-key", "/metrics", None, accept=accept)).text
    assert (await send(front, None, "/metrics", None, accept=accept)).status_code == 401
    assert (await send(front, "ops-key")).status_code == 200, "an operator is a client, too"


@pytest.mark.parametrize("key", [None, "wrong", "second-key"])
async def test_only_an_operator_sees_the_details_of_health(key: str | None) -> None:
    front = guarded()
    answer = await send(front, key, "/health", None)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert (await send(front, key, "/ready", None)).json() == {"ready": True}
    assert "models" in (await send(front, "ops-key", "/health", None)).json()


async def test_only_an_operator_sees_where_a_model_comes_from() -> None:
    front = guarded()
    front.backend.info_ = replace(INFO, source="/srv/models/private")

    async def health() -> dict[str, Any]:
        models = {INFO.name: asdict(front.backend.info_)}
        return {"models": models, "controller": {"max_parallel": 8}, "default_model": INFO.name}

    front.health = health  # type: ignore[method-assign]
    info = (await send(front, "second-key", "/info", None)).json()
    assert info["model_id"] == INFO.name
    info = (await send(front, "ops-key", "/info", None)).json()
    assert info["model_id"] == "/srv/models/private"


async def test_without_keys_everybody_sees_metrics_and_health() -> None:
    front = FakeFrontend()
    assert (await send(front, None, "/metrics", None)).status_code == 200
    assert "models" in (await send(front, None, "/health", None)).json()


async def test_no_response_contains_a_key() -> None:
    front = guarded(open_routes=("/metrics",))
    answers = [await send(front, "second-key")]
    for path in ("/metrics", "/health", "/openapi.json", "/v1/models", "/v1/usage"):
        answers.append(await send(front, "second-key", path, None))
    digest = KeyRing(ENTRIES).keys().find([b"second-key"])
    assert digest is not None
    for answer in answers:
        assert "second-key" not in answer.text + str(answer.headers)
        assert digest.digest.hex() not in answer.text


def test_usage_is_merged_and_the_number_of_names_is_limited() -> None:
    telemetry = Telemetry()
    for i in range(MAX_KEY_NAMES + 50):
        telemetry.record_usage(f"k{i}", requests=1)
    total = merge([telemetry.snapshot(), telemetry.snapshot()])
    assert to_json(total)["usage_by_key"][OTHER_KEYS]["requests"] == 100
    families = text_string_to_metric_families(to_prometheus(total).decode())
    (requests,) = [f for f in families if f.name == "rerank_key_requests"]
    assert len(requests.samples) == MAX_KEY_NAMES + 1


ORIGIN = "https://app.example"
PREFLIGHT = {
    "origin": ORIGIN,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.mark.parametrize("origins", [(ORIGIN,), ("*",)])
async def test_pages_of_allowed_origins_may_call_the_service(origins: tuple[str, ...]) -> None:
    async with guarded(cors_origins=origins).client(origin=ORIGIN) as client:
        preflight = await client.options("/v1/rerank", headers=PREFLIGHT)
        refused = await client.post("/v1/rerank", json=BODY)
        answer = await client.post("/v1/rerank", json=BODY, headers={"x-api-key": "first-key"})
    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert (refused.status_code, answer.status_code) == (401, 200)
    allowed = {r.headers["access-control-allow-origin"] for r in (preflight, refused, answer)}
    assert allowed == set(origins)
    exposed = answer.headers["access-control-expose-headers"]
    for name in ("x-request-id", "retry-after", "server-timing", "x-ratelimit-remaining-tokens"):
        assert name in exposed


async def test_other_origins_and_disabled_cors_are_refused() -> None:
    async with guarded(cors_origins=("https://other.example",)).client(**PREFLIGHT) as client:
        assert (await client.options("/v1/rerank")).status_code == 400
    async with guarded().client(**PREFLIGHT) as client:
        answer = await client.options("/v1/rerank")
    assert answer.status_code == 401
    assert "access-control-allow-origin" not in answer.headers


async def test_every_refusal_carries_the_request_id() -> None:
    headers = {"x-request-id": "mine-1"}
    front = guarded(clock=Clock())
    async with front.client(**headers) as client:
        refused = await client.post("/v1/rerank", json=BODY)
        for _ in range(3):
            limited = await client.post("/rerank", json=BODY, headers={"api-key": "first-key"})
        missing = await client.get("/nothing", headers={"api-key": "second-key"})
    assert [r.status_code for r in (refused, limited, missing)] == [401, 429, 404]
    assert {r.headers["x-request-id"] for r in (refused, limited, missing)} == {"mine-1"}
    assert refused.json()["id"] == limited.json()["request_id"] == "mine-1"


async def test_an_unexpected_error_is_counted_and_has_the_usual_headers() -> None:
    front = FakeFrontend(cors_origins=("https://page.example",))

    async def fail(_: Any) -> Any:
        raise AssertionError("a bug")

    front.service.rerank = fail  # type: ignore[method-assign]
    async with front.client() as client:
        answer = await client.post(
            "/v1/rerank", json=BODY, headers={"origin": "https://page.example"}
        )
    assert answer.status_code == 500
    assert json.loads(answer.content)["id"] == answer.headers["x-request-id"]
    assert "a bug" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    report = to_json(front.telemetry.snapshot())
    assert report["usage_by_key"]["anonymous"]["errors"] == 1
    assert report["responses_by_dialect"] == {"v1": {"500": 1}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rerank/batch", {"queries": ["a", {"query": "b"}, " ", "d"], "documents": ["x"]}),
        ("/score", {"queries": ["a", "b", "c", "d"], "documents": ["x"] * 4}),
    ],
)
async def test_each_query_of_a_batch_counts_as_a_request(path: str, body: Any) -> None:
    clock = Clock()
    front = FakeFrontend(ring=KeyRing(["first-key name=one rpm=6"]), clock=clock)
    first = await send(front, "first-key", path, body)
    assert (first.status_code, first.headers["x-ratelimit-remaining-requests"]) == (200, "2")
    # A batch of more than is left is answered; the client then waits until the rate is kept.
    assert (await send(front, "first-key", path, body)).status_code == 200
    late = await send(front, "first-key", path, body)
    assert (late.status_code, late.headers["retry-after"]) == (429, "30")
    clock.now += 30
    assert (await send(front, "first-key")).status_code == 200
