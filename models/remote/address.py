"""The URL of a model's calls, and the model's name at the provider."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from models.remote.errors import RemoteConfigError
from models.remote.types import Provider, RemoteSpec

# The only model that NVIDIA serves at a path without its name. It also has a different name there.
_NVIDIA_SHARED = "nv-rerank-qa-mistral-4b:1"
_NVIDIA_SHARED_NAMES = ("nv-rerank-qa-mistral-4b:1", "rerank-qa-mistral-4b")


def model_of(provider: Provider, spec: RemoteSpec) -> str | None:
    """The model's name in a call. Raises RemoteConfigError if a required name is missing."""
    if spec.model is None:
        if provider.needs_model:
            raise RemoteConfigError(f"{spec.name}: {provider.title} needs `model`")
        return None
    if provider.name != "nvidia":
        return spec.model
    short = spec.model.removeprefix("nvidia/")
    return _NVIDIA_SHARED if short in _NVIDIA_SHARED_NAMES else f"nvidia/{short}"


def url_of(provider: Provider, spec: RemoteSpec, environ: Mapping[str, str] = os.environ) -> str:
    """The URL to post to: `base_url` if it already names the endpoint, else `base_url` + path.

    Raises RemoteConfigError if there is no base URL, or if it is not a valid one.
    """
    base = (spec.base_url or provider.base or "").rstrip("/")
    if not base:
        raise RemoteConfigError(f"{spec.name}: {provider.title} needs `base_url`")
    model = model_of(provider, spec) or ""
    path = provider.path
    if provider.name == "nvidia":
        shared = model == _NVIDIA_SHARED
        path = path.replace("/{model}", "") if shared else path
        model = model.removeprefix("nvidia/").replace(".", "_")
    region = spec.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or ""
    names = {"model": quote(model, safe=""), "region": region, "project": spec.project or ""}
    for name, value in names.items():
        base, path = base.replace(f"{{{name}}}", value), path.replace(f"{{{name}}}", value)
    check_base(base)
    if spec.base_url and _names_endpoint(base.rsplit("/", 1)[-1], path.rsplit("/", 1)[-1]):
        return base
    # Many users include the version in the base URL, as OpenAI's clients do.
    if path.startswith("/v1/") and base.endswith("/v1"):
        path = path.removeprefix("/v1")
    return base + path


def check_base(base: str) -> None:
    """Raise RemoteConfigError if the base URL is invalid or may contain a credential."""
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RemoteConfigError("base_url must be an http or https URL")
    if parts.username or parts.password or parts.query:
        raise RemoteConfigError("base_url must not contain a user name, password or query string")


def _names_endpoint(last: str, usual: str) -> bool:
    """Whether a base URL already ends in an endpoint (`…/v2/rerank`, `…/rerankers`)."""
    return last == usual or last.startswith("rerank")


def without_query(url: str) -> str:
    """The URL without its query string, which may hold a token."""
    return url.partition("?")[0]
