"""The service's exceptions, each with an HTTP status and a machine-readable code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# A message may quote a request, whose fields may be megabytes long.
MAX_MESSAGE_CHARS = 2000
MAX_PARAM_CHARS = 256
# Status recorded for a client that disconnected before the response.
NO_ANSWER = 499


class RerankError(Exception):
    """An error reported to the client: the message says what is wrong and how to fix it."""

    status = 500
    code = "internal_error"
    retry_after_s: int | None = None
    # Seconds that the request waited in the queue before it was refused there.
    queued_s: float | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        message = _shortened(message, MAX_MESSAGE_CHARS)
        super().__init__(message)
        self.message = message
        self.param = None if param is None else _shortened(param, MAX_PARAM_CHARS)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.param, self.retry_after_s))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _rebuild(
    kind: type[RerankError], message: str, param: str | None, retry_after_s: int | None
) -> RerankError:
    error = kind(message, param=param)
    error.retry_after_s = retry_after_s
    return error


class InvalidRequest(RerankError):
    """A field is missing or invalid."""

    status = 422
    code = "invalid_request"


class BadRequest(InvalidRequest):
    """A required field is missing or empty; Cohere's status for this is 400, not 422."""

    status = 400


class TooManyDocuments(InvalidRequest):
    code = "too_many_documents"


class DocumentTooLong(InvalidRequest):
    """A document would be truncated, and the client asked for an error instead."""

    code = "document_too_long"


class MalformedBody(RerankError):
    """The body is not JSON, or not an object."""

    status = 400
    code = "malformed_body"


class BodyTooLarge(RerankError):
    status = 413
    code = "body_too_large"


class BodyTooSlow(RerankError):
    """The body arrived more slowly than the minimum pace."""

    status = 408
    code = "body_too_slow"


class UnsupportedMediaType(RerankError):
    status = 415
    code = "unsupported_media_type"


class UnsupportedEncoding(UnsupportedMediaType):
    """The body has an unsupported Content-Encoding."""

    code = "unsupported_encoding"


class UnknownModel(RerankError):
    status = 404
    code = "model_not_found"


class Unauthorized(RerankError):
    """The request has no API key, or an unknown one."""

    status = 401
    code = "unauthorized"


class Forbidden(RerankError):
    """The API key does not permit this; an operator's key does."""

    status = 403
    code = "forbidden"


class NotFound(RerankError):
    status = 404
    code = "not_found"


class MethodNotAllowed(RerankError):
    status = 405
    code = "method_not_allowed"


class Overloaded(RerankError):
    """The queue is full."""

    status = 429
    code = "overloaded"
    retry_after_s = 1


class RateLimited(RerankError):
    """The client has exceeded its limit of requests or tokens per minute."""

    status = 429
    code = "rate_limited"
    retry_after_s = 1

    def __init__(
        self, message: str, *, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message, param=param)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class QueueTimeout(RerankError):
    """The request waited in the queue longer than allowed."""

    status = 503
    code = "queue_timeout"
    retry_after_s = 1


class ShuttingDown(RerankError):
    status = 503
    code = "shutting_down"
    retry_after_s = 5


class ModelUnavailable(RerankError):
    """The model's replicas did not respond."""

    status = 503
    code = "model_unavailable"
    retry_after_s = 5


class MetricsUnavailable(RerankError):
    """The metrics hub did not respond."""

    status = 503
    code = "metrics_unavailable"
    retry_after_s = 5


class DeadlineExceeded(RerankError):
    """Scoring exceeded the worker timeout or the client's own timeout."""

    status = 504
    code = "deadline_exceeded"


class ScoringFailed(RerankError):
    """The model returned no usable score."""

    status = 500
    code = "scoring_failed"


class UpstreamRefused(RerankError):
    """The provider rejected the request as invalid."""

    status = 422
    code = "upstream_refused"


class UpstreamRateLimited(RerankError):
    """The provider's rate limit is reached, or the budget configured for it."""

    status = 429
    code = "upstream_rate_limited"
    retry_after_s = 1


class UpstreamFailed(RerankError):
    """The provider rejected this service's key or returned no usable response."""

    status = 502
    code = "upstream_failed"


class UpstreamUnavailable(RerankError):
    """The provider is unreachable or failing."""

    status = 503
    code = "upstream_unavailable"
    retry_after_s = 5


class UpstreamTimeout(RerankError):
    """The provider did not respond within the model's timeout."""

    status = 504
    code = "upstream_timeout"


# Failures of a model for which its fallback may answer.
REPLACEABLE = (
    DeadlineExceeded,
    ModelUnavailable,
    UpstreamFailed,
    UpstreamRateLimited,
    UpstreamTimeout,
    UpstreamUnavailable,
)


class NotInstalled(ModuleNotFoundError):
    """A package of one of the extras is missing."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"{module} is not installed: pip install 'rerank-serve[{extra}]'", name=module
        )


@contextmanager
def installed_by(extra: str) -> Iterator[None]:
    """Import what `extra` brings in this block. Raises NotInstalled where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise NotInstalled(str(error.name), extra) from None
