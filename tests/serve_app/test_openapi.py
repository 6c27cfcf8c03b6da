"""The API description and the page that shows it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serve_app import errors, openapi, web
from serve_app.access import HEADER_NAMES
from serve_app.access.gate import ALWAYS_OPEN
from serve_app.dialects import NATIVE, V1, Dialect, Limits
from serve_app.settings import load
from serve_app.types import RankedDocument, RerankResult
from tests.serve_app.fakes import InProcess

DOC = openapi.document("1.2.3")
ROUTES = [("/rerank", "Native", NATIVE), ("/v1/rerank", "V1", V1)]
routes = pytest.mark.parametrize(("path", "prefix", "dialect"), ROUTES, ids=["native", "v1"])


def valid(schema: dict[str, Any], value: Any) -> bool:
    return Draft202012Validator({**schema, "components": DOC["components"]}).is_valid(value)


def named(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def test_it_is_json_with_every_route_and_sound_schemas() -> None:
    assert json.loads(json.dumps(DOC)) == DOC
    assert DOC["info"]["version"] == "1.2.3"
    assert {(p, m) for p, methods in DOC["paths"].items() for m in methods} == {
        ("/rerank", "post"),
        ("/v1/rerank", "post"),
        ("/health", "get"),
        ("/ready", "get"),
        ("/metrics", "get"),
        ("/v1/models", "get"),
        ("/v1/usage", "get"),
        ("/openapi.json", "get"),
        ("/docs", "get"),
    }
    for schema in DOC["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    for name in re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOC)):
        assert name in DOC["components"]["schemas"]


def test_every_error_status_is_described() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    statuses = {k.status for k in kinds if issubclass(k, errors.RerankError)}
    for path in ("/rerank", "/v1/rerank"):
        described = {int(s) for s in DOC["paths"][path]["post"]["responses"]}
        assert described == statuses | {200}


@routes
def test_examples_fit_their_schemas(path: str, prefix: str, dialect: Dialect) -> None:
    route = DOC["paths"][path]["post"]
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
        {"explain": True},
        {"explain": "no"},
        {"query_image_url": None},
        {"query_image_url": "https://example.org/a.png"},
        {"query_image_url": "data:image/png;base64,AAAA", "query": None},
        {"query_image_url": "data:image/png;base64,AAAA", "query": " "},
        {"query_image_url": "data:image/png;base64,AAAA", "query": 0},
        {"query_image_url": "file:///a.png"},
        {"query_image_url": 1},
    ],
    ids=str,
)
def test_the_schema_accepts_what_the_parser_accepts(
    path: str, prefix: str, dialect: Dialect, change: dict[str, Any]
) -> None:
    body = {"query": "q", "documents": ["a"], **change}
    if not valid(named(f"{prefix}Request"), body):
        with pytest.raises(errors.RerankError) as caught:
            dialect.parse(body, Limits())
        assert valid(named(f"{prefix}Error"), json.loads(dialect.error(caught.value, "i")))
        return
    request = dialect.parse(body, Limits())
    ranked = (RankedDocument(index=0, relevance_score=0.5, logit=0.0, document=None),)
    result = RerankResult(id="i", model="m", results=ranked, truncated=(0,))
    assert valid(named(f"{prefix}Response"), json.loads(dialect.render(result, request)))


def test_the_contract_says_which_routes_need_a_key_and_where_it_stands() -> None:
    assert {} in DOC["security"], "a service without keys asks for none"
    schemes = DOC["components"]["securitySchemes"]
    assert {name for need in DOC["security"] for name in need} == set(schemes)
    for path, methods in DOC["paths"].items():
        for route in methods.values():
            is_open = path in ALWAYS_OPEN or path in load({}, {}).open_routes
            assert route.get("security") == ([] if is_open else None), path
            assert ("401" in route["responses"]) == (not is_open), path


def test_the_contract_names_every_header_of_limits() -> None:
    responses = DOC["paths"]["/v1/rerank"]["post"]["responses"]
    for status in ("200", "429"):
        assert set(HEADER_NAMES) <= {name.lower() for name in responses[status]["headers"]}
    assert "WWW-Authenticate" in responses["401"]["headers"]


async def test_usage_is_as_described() -> None:
    schema = DOC["components"]["schemas"]["Usage"]
    route = DOC["paths"]["/v1/usage"]["get"]["responses"]["200"]
    assert valid(schema, route["content"]["application/json"]["example"])
    async with InProcess(rpm=5).client() as client:
        assert valid(schema, (await client.get("/v1/usage")).json())


def test_the_page_needs_nothing_from_outside() -> None:
    page = web.page("docs").decode()
    assert page == web.page("docs.html").decode()
    assert "./openapi.json" in page
    assert "prefers-color-scheme" in page
    assert not re.search(r"https?://|innerHTML|<script src", page)
    with pytest.raises(FileNotFoundError):
        web.page("nothing")
