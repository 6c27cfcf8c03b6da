"""Limits of a request: how many at once, how large, how long, how many retries."""

from __future__ import annotations

from serve_app.settings.base import Frozen, setting


class LimitSettings(Frozen):
    """Limits of requests (docs/reliability.md)."""

    max_parallel: int = setting(
        "RERANKER_MAX_PARALLEL", 64, "Maximum requests scored at once; further ones wait.", ge=1
    )
    max_queue: int = setting(
        "RERANKER_MAX_QUEUE", 512, "Maximum requests in the queue; further ones get a 429.", ge=0
    )
    queue_timeout_s: float = setting(
        "RERANKER_QUEUE_TIMEOUT",
        30.0,
        "Maximum seconds a request waits in the queue; then it gets a 503.",
        gt=0,
    )
    worker_timeout_s: float = setting(
        "RERANKER_WORKER_TIMEOUT",
        120.0,
        "Maximum seconds to score a request, including retries; then it gets a 504.",
        gt=0,
    )
    hang_timeout_s: float = setting(
        "RERANKER_HANG_TIMEOUT",
        60.0,
        "Maximum seconds for the forward pass of one micro-batch; a replica that takes longer "
        "is replaced.",
        gt=0,
    )
    max_retries: int = setting(
        "RERANKER_MAX_RETRIES", 2, "Maximum retries of a chunk when a replica fails.", ge=0, le=10
    )
    max_documents: int = setting(
        "RERANKER_MAX_DOCUMENTS", 10_000, "Maximum documents per request.", ge=1
    )
    max_body_bytes: int = setting(
        "RERANKER_MAX_BODY_BYTES", 10 * 2**20, "Maximum bytes of a request body.", ge=1024
    )
    image_urls: bool = setting(
        "RERANKER_IMAGE_URLS",
        False,
        "Fetch image documents given by URL. Anyone who can send a request can then make the "
        "service call any address that it can reach.",
    )
