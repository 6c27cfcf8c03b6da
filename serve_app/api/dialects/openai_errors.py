"""Errors in the format of OpenAI's API, also used by vLLM, SGLang and llama.cpp."""

from __future__ import annotations

from typing import Any

from serve_app.errors import RerankError

_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "MethodNotAllowedError",
    413: "BadRequestError",
    415: "BadRequestError",
    422: "BadRequestError",
    429: "RateLimitError",
    503: "ServiceUnavailableError",
    504: "GatewayTimeoutError",
}


def openai_error(error: RerankError, status: int) -> dict[str, Any]:
    return {
        "message": error.message,
        "type": _TYPES.get(status, "InternalServerError"),
        "param": error.param,
        "code": status,
    }


def error_type(status: int) -> str:
    return _TYPES.get(status, "InternalServerError")
