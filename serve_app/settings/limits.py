"""Limits of a request: how many at once, how large, how long, how many retries."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from serve_app.settings.base import Frozen, setting, split

_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", re.ASCII)


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        try:
            ipaddress.ip_network(host, strict=False)
        except ValueError:
            # A name ends in a label that is not a number, so that 10.0.0.0/33 and 10.0.0 are none.
            if not _HOST_NAME.fullmatch(host) or host.rstrip(".").rsplit(".", 1)[-1].isdigit():
                raise ValueError(
                    f"{host!r} is neither a host name nor an IP address nor a network"
                ) from None
    return value


Hosts = Annotated[tuple[str, ...], BeforeValidator(split), AfterValidator(_hosts)]

MIN_INFLIGHT_BYTES = 256 * 2**20


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
    max_inflight_bytes: int | None = setting(
        "RERANKER_MAX_INFLIGHT_BYTES",
        None,
        "Maximum bytes of the requests that an ingress holds at once, received and parsed; further "
        "ones get a 429. Unset: 256 MiB, or four times RERANKER_MAX_BODY_BYTES if that is more.",
        ge=2**20,
    )
    image_urls: bool = setting(
        "RERANKER_IMAGE_URLS",
        False,
        "Fetch image documents given by URL, from public addresses only.",
    )
    image_private_hosts: Hosts = setting(
        "RERANKER_IMAGE_PRIVATE_HOSTS",
        (),
        "Private hosts that images may be fetched from as well: names, IP addresses and networks "
        "(`10.1.0.0/16`), separated by commas. Anyone who can send a request can then make the "
        "service call them.",
    )

    @property
    def inflight_bytes(self) -> int:
        """The maximum bytes of all requests of one ingress."""
        return self.max_inflight_bytes or max(MIN_INFLIGHT_BYTES, 4 * self.max_body_bytes)
