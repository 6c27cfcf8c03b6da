"""Checks that a model supports the options of a request: others are refused, not ignored."""

from __future__ import annotations

from dataclasses import replace

from models.images import ImageDocument
from models.types import DEFAULTS, ModelInfo, ScoreOptions
from serve_app.errors import InvalidRequest
from serve_app.request_options import OPTIONS, Capability
from serve_app.types import RerankRequest

# Options that not every model supports: field, name in ScoreOptions, required capability.
LIMITED_OPTIONS = [
    (name, option.attribute, option.capability)
    for name, option in OPTIONS.items()
    if option.attribute and option.capability
]


def is_set(options: ScoreOptions, attribute: str) -> bool:
    """Return whether the option differs from its default."""
    return bool(getattr(options, attribute) != getattr(DEFAULTS, attribute))


def supports(info: ModelInfo, capability: Capability) -> bool:
    return bool(getattr(info, capability.flag))


def check(info: ModelInfo, request: RerankRequest) -> None:
    """Raises InvalidRequest naming a field that the model does not support."""
    if not info.takes_images and any(isinstance(d, ImageDocument) for d in request.documents):
        raise InvalidRequest(
            f"the model {info.name!r} accepts text only; send documents without images",
            param="documents",
        )
    for field, attribute, capability in LIMITED_OPTIONS:
        if is_set(request.options, attribute) and not supports(info, capability):
            raise InvalidRequest(f"the model {info.name!r} {capability.lacks}", param=field)


def supported(options: ScoreOptions, info: ModelInfo) -> ScoreOptions:
    """Return the options, with those that the model does not support reset to their defaults."""
    if options == DEFAULTS:
        return options
    unused = [attribute for _, attribute, needed in LIMITED_OPTIONS if not supports(info, needed)]
    return replace(options, **{name: getattr(DEFAULTS, name) for name in unused})
