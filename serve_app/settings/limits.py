"""What bounds a request: how many at once, how large, how long, how often it is tried again."""

from __future__ import annotations

from serve_app.settings.base import Frozen, env


class BoundsSettings(Frozen):
    """docs/reliability.md says what is answered over each of them."""

    max_parallel: int = env(
        "RERANKER_MAX_PARALLEL", 64, "Requests scored at once; the rest wait.", ge=1
    )
    max_queue: int = env("RERANKER_MAX_QUEUE", 512, "Requests that may wait; over it: 429.", ge=0)
    queue_timeout_s: float = env(
        "RERANKER_QUEUE_TIMEOUT", 30.0, "Seconds a request may wait; over it: 503.", gt=0
    )
    worker_timeout_s: float = env(
        "RERANKER_WORKER_TIMEOUT",
        120.0,
        "Seconds that scoring may take, retries included; over it: 504.",
        gt=0,
    )
    hang_timeout_s: float = env(
        "RERANKER_HANG_TIMEOUT",
        60.0,
        "Seconds that one merged batch's forward passes may take; a replica that takes longer is "
        "replaced.",
        gt=0,
    )
    max_retries: int = env(
        "RERANKER_MAX_RETRIES", 2, "Further tries when a replica fails.", ge=0, le=10
    )
    max_documents: int = env(
        "RERANKER_MAX_DOCUMENTS", 10_000, "Documents in a request at most.", ge=1
    )
    max_body_bytes: int = env(
        "RERANKER_MAX_BODY_BYTES", 10 * 2**20, "Bytes of a request body at most.", ge=1024
    )
