"""The OpenAPI description and the page that shows it."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serve_app import errors
from serve_app.access import HEADER_NAMES
from serve_app.access.gate import ALWAYS_OPEN
from serve_app.api import openapi, web
from serve_app.api.dialects import NATIVE, ROUTES, Limits, Wire
from serve_app.settings import load
from tests.serve_app.fakes import FakeFrontend, WordOverlap, answer, make_service

DOC = openapi.document("1.2.3")
routes = pytest.mark.parametrize("path", ROUTES)


PIPELINES: list[dict[str, Any]] = [
    {"pipeline": None, "budget_ms": None},
    {"pipeline": [{"rerank": "words", "keep": 1.0}], "budget_ms": 1000},
    {"pipeline": [{"fuse": ["bm25", "words"], "k": 9}, {"threshold": 0}]},
    {"pipeline": [{"rerank": "bm25"}], "model": "words"},
    {"pipeline": [{"rerank": "bm25"}], "model": ""},
    *(
        {"pipeline": wrong}
        for wrong in (
            [],
            "words",
            [1],
            [{}],
            [{"threshold": 0.5}],
            [{"rerank": 3}],
            [{"rerank": "bm25", "keep": 0}],
            [{"rerank": "bm25", "keep": "1"}],
            [{"rerank": "bm25", "keep": True}],
            [{"rerank": "bm25", "mmr": "words"}],
            [{"rerank": "bm25"}, {"threshold": "0.5"}],
            [{"fuse": ["words"]}],
            [{"fuse": ["words", "words"]}],
            [{"mmr": "bm25"}],
            [{"mmr": "words", "lambda": 2}],
            [{"mmr": "words", "trade": 0.5}],
            [{"rerank": "bm25"}] * 9,
        )
    ),
    {"pipeline": [{"rerank": "bm25"}], "budget_ms": 0},
    {"pipeline": [{"rerank": "bm25"}], "budget_ms": 1.5},
]


def valid(schema: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator({**schema, "components": DOC["components"]}).is_valid(value)


async def answered(dialect: Wire, body: dict[str, Any]) -> bytes | errors.RerankError:
    try:
        backend = WordOverlap()
        backend.info_ = replace(backend.info_, takes_query_image=True, explains=True)
        service = make_service(backend)
        return (await answer(service, dialect, body, Limits()))[0]
    except errors.RerankError as error:
        return error


def described(path: str) -> dict[str, Any]:
    route: dict[str, Any] = DOC["paths"][path.replace(":path}", "}")]["post"]
    return route


def schema_of(part: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = part["content"]["application/json"]["schema"]
    return schema


def test_the_description_has_every_route_and_valid_schemas() -> None:
    assert json.loads(json.dumps(DOC)) == DOC
    assert DOC["info"]["version"] == "1.2.3"
    assert {(p, m) for p, methods in DOC["paths"].items() for m in methods} == {
        *((path.replace(":path}", "}"), "post") for path in ROUTES),
        ("/health", "get"),
        ("/info", "get"),
        ("/ready", "get"),
        ("/metrics", "get"),
        ("/v1/models", "get"),
        ("/v1/usage", "get"),
        ("/v1/models/{name}", "get"),
        ("/openapi.json", "get"),
        ("/docs", "get"),
    }
    ids = [m["operationId"] for methods in DOC["paths"].values() for m in methods.values()]
    assert len(ids) == len(set(ids))
    for schema in DOC["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOC)):
        assert name in DOC["components"]["schemas"]


@routes
def test_every_error_status_is_described(path: str) -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    # These come from other routes.
    elsewhere = {errors.NotFound, errors.Forbidden, errors.MetricsUnavailable}
    kinds = [k for k in kinds if issubclass(k, errors.RerankError) and k not in elsewhere]
    assert set(kinds) == {kind for kind, _ in openapi.ERRORS}
    responses = described(path)["responses"]
    assert "200" in responses
    for dialect in ROUTES[path].dialects:
        for kind in kinds:
            error = kind("message")
            response = responses[str(dialect.status(error))]
            assert valid(schema_of(response), json.loads(dialect.error(error, "i")))
            assert ("Retry-After" in response.get("headers", {})) or not error.retry_after_s


@routes
def test_examples_match_their_schemas(path: str) -> None:
    route = described(path)
    contents = [r["content"]["application/json"] for r in route["responses"].values()]
    for content in [route["requestBody"]["content"]["application/json"], *contents]:
        assert valid(content["schema"], content["example"])


@routes
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"query": ""},
        {"query": 1},
        {"query": {"text": "q"}},
        {"query": {"image": "x", "text": "q"}},
        {"documents": []},
        {"documents": "a"},
        {"documents": [""]},
        {"documents": [{"text": "a", "more": 1}]},
        {"documents": [{"title": "a"}]},
        {"documents": [None]},
        {"top_n": 0},
        {"top_n": 1.0},
        {"top_n": 1.5},
        {"top_n": True},
        {"top_n": "1"},
        {"top_n": None},
        {"model": None},
        {"model": 1},
        {"model": "m" * 257},
        {"return_documents": "TRUE"},
        {"return_documents": "no"},
        {"return_documents": 1},
        {"return_documents": None},
        {"unknown": 1},
        {"rank_fields": ["a"], "documents": [{"a": "x"}]},
        {"rank_fields": ["a"], "documents": ["x"]},
        {"rank_fields": "a"},
        {"rank_fields": []},
        {"priority": 999},
        {"priority": 1000},
        {"relevant_spans": {"mode": "enabled", "threshold": 0.5, "max_spans": None}},
        {"relevant_spans": {"mode": "on"}},
        {"sort": "false", "raw_scores": True},
        {"sort": 3},
        {"raw_scores": []},
        {"truncate": "END"},
        {"truncate": False},
        {"truncation": False},
        {"truncation_direction": "Left"},
        {"truncation_direction": 1},
        {"max_doc_length": 0},
        {"max_chunks_per_doc": 3},
        {"truncate_prompt_tokens": -1},
        {"truncate_prompt_tokens": -2},
        {"return_embeddings": True},
        {"return_text": True},
        {"return_text": "x"},
        {"long_document": "max_passage"},
        {"long_document": "x"},
        {"instruction": 1},
        {"input": []},
        {"input": [{"title": "a"}]},
        {"return_input": "true"},
        {"return_input": 1},
        {"explain": True},
        {"explain": "no"},
        {"query_image_url": None},
        {"query_image_url": "https://example.org/a.png"},
        {"query_image_url": "data:image/png;base64,AAAA", "query": None},
        {"query_image_url": "data:image/png;base64,AAAA", "query": " "},
        {"query_image_url": "data:image/png;base64,AAAA", "query": 0},
        {"query_image_url": "data:image/png;base64,AAAA", "query": {"text": ""}},
        {"query_image_url": "data:image/png;base64,AAAA", "query": {}},
        {"query_image_url": "file:///a.png"},
        {"query_image_url": 1},
        *PIPELINES,
    ],
    ids=str,
)
async def test_the_schema_accepts_what_the_parser_accepts(
    path: str, change: dict[str, Any]
) -> None:
    texts, pairs = {"query": "q", "texts": ["a"]}, {"text_1": "q", "text_2": "a"}
    bases = {"nim": {"query": "q", "passages": ["a"]}, "score": pairs, "batch": {"queries": ["q"]}}
    plain = {"query": "q", "documents": ["a"]}
    route = described(path)
    given = {"query": "q", "input": ["a"]}
    for base in (plain, given, {**plain, "truncation": None}, texts, *bases.values()):
        body = {**base, **change}
        dialect = ROUTES[path].choose(body)
        if dialect.name == "batch":
            if change:
                continue  # its queries fail individually, but the request does not
            body["documents"] = ["a"]
        outcome = await answered(dialect, body)
        if isinstance(outcome, errors.UnknownModel):
            continue
        assert valid(schema_of(route["requestBody"]), body) == isinstance(outcome, bytes), body
        if isinstance(outcome, bytes):
            assert valid(schema_of(route["responses"]["200"]), json.loads(outcome))
        else:
            response = route["responses"][str(dialect.status(outcome))]
            assert valid(schema_of(response), json.loads(dialect.error(outcome, "i")))


@pytest.mark.parametrize("image", ["https://example.org/", "data:image/png;base64,"])
@pytest.mark.parametrize("more", [0, 1])
def test_schema_and_parser_agree_on_the_length_of_a_query_image(image: str, more: int) -> None:
    most = 10 * 2**20
    body = {"documents": ["a"], "query_image_url": image.ljust(most + more, "a")}
    schema = schema_of(described("/rerank")["requestBody"])
    assert valid(schema, body) == (more == 0)
    with pytest.raises(errors.InvalidRequest) if more else nullcontext():
        NATIVE.parse(body, Limits())


@pytest.mark.parametrize("more", [0, 1])
def test_schema_and_parser_agree_on_the_length_of_an_image_type(more: int) -> None:
    image = f"data:image/{'x' * (237 + more)};base64,AAAA"
    body = {"documents": ["a"], "query_image_url": image}
    assert valid(schema_of(described("/rerank")["requestBody"]), body) == (more == 0)
    with pytest.raises(errors.InvalidRequest) if more else nullcontext():
        NATIVE.parse(body, Limits())


def test_the_description_says_which_routes_require_a_key_and_in_which_header() -> None:
    assert {} in DOC["security"], "a service without keys requires none"
    schemes = DOC["components"]["securitySchemes"]
    assert {name for need in DOC["security"] for name in need} == set(schemes)
    for path, methods in DOC["paths"].items():
        for route in methods.values():
            is_open = path in ALWAYS_OPEN or path in load({}, {}).access.open_routes
            assert route.get("security") == ([] if is_open else None), path
            assert ("401" in route["responses"]) == (not is_open), path


def test_the_description_names_every_rate_limit_header() -> None:
    responses = DOC["paths"]["/v1/rerank"]["post"]["responses"]
    for status in ("200", "429"):
        assert set(HEADER_NAMES) <= {name.lower() for name in responses[status]["headers"]}
    assert "WWW-Authenticate" in responses["401"]["headers"]


async def test_usage_matches_its_description() -> None:
    schema = DOC["components"]["schemas"]["Usage"]
    route = DOC["paths"]["/v1/usage"]["get"]["responses"]["200"]
    assert valid(schema, route["content"]["application/json"]["example"])
    async with FakeFrontend(rpm=5).client() as client:
        assert valid(schema, (await client.get("/v1/usage")).json())


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = web.page("docs").decode()
    assert page == web.page("docs.html").decode()
    assert "./openapi.json" in page
    assert "prefers-color-scheme" in page
    assert not re.search(r"https?://|innerHTML|<script src", page)
    with pytest.raises(FileNotFoundError):
        web.page("nothing")
