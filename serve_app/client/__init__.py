"""The Python client, blocking and async; it needs only httpx and pydantic.

`agents` holds tools for agents, `frameworks` adapters for RAG frameworks.
"""

from serve_app.client.core import AsyncReranker
from serve_app.client.errors import BadAnswer, Refused, TookTooLong, Unreachable
from serve_app.client.reranker import Reranker
from serve_app.client.results import BatchFailure, Hit, RerankResults, StageScore
from serve_app.client.retry import Retry
from serve_app.client.spans import Span, SpanOptions
from serve_app.client.usage import (
    TokenUsageTracker,
    Usage,
    UsageSnapshot,
    shared_tracker,
)
from serve_app.errors import RerankError
from serve_app.pricing import Price

__all__ = [
    "AsyncReranker",
    "BadAnswer",
    "BatchFailure",
    "Hit",
    "Price",
    "Refused",
    "RerankError",
    "RerankResults",
    "Reranker",
    "Retry",
    "Span",
    "SpanOptions",
    "StageScore",
    "TokenUsageTracker",
    "TookTooLong",
    "Unreachable",
    "Usage",
    "UsageSnapshot",
    "shared_tracker",
]
