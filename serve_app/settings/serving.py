"""Where the service listens, and the profile it starts from."""

from __future__ import annotations

from typing import Literal

from serve_app.settings.base import Frozen, setting

Traffic = Literal["auto", "haproxy", "proxy"]


class ServingSettings(Frozen):
    """How clients reach the service (docs/scaling.md)."""

    host: str = setting("HOST", "127.0.0.1", "Address to listen on.")
    port: int = setting("PORT", 8000, "Port to listen on.", ge=1, le=65535)
    traffic: Traffic = setting(
        "RERANKER_TRAFFIC",
        "auto",
        "Traffic path of `rerank up`: `haproxy` (HAProxy in front of the ingress) or `proxy` (Ray "
        "Serve's own proxy); `auto`: haproxy where it runs.",
    )
    ingress_replicas: int = setting(
        "RERANKER_INGRESS_REPLICAS",
        1,
        "Ingress replicas; each has its own queue and its own scores in memory (docs/scaling.md).",
        ge=1,
    )
    profile: str | None = setting(
        "RERANKER_PROFILE",
        None,
        "Profile: a set of settings by name (docs/scaling.md), or the path of a .yaml file. Every "
        "other source overrides it.",
    )
