"""Schemathesis checks the routes against the OpenAPI document with generated bodies."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_app.api.app import make_app
from serve_app.api.dialects import Limits
from serve_app.api.timeout_headers import HEADER
from tests.serve_app.fakes import FakeFrontend

FRONT = FakeFrontend(limits=Limits(max_documents=50, max_body_bytes=100_000))
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", make_app(lambda: FRONT))
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


@SCHEMA.parametrize()
@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_responses_match_the_description(case: schemathesis.Case) -> None:
    if case.headers and HEADER in case.headers:
        # A generated timeout of half a millisecond would correctly end in a 504.
        case.headers[HEADER] = "60000"
    case.call_and_validate(checks=list(CHECKS))
