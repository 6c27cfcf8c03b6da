"""What a model can't do is refused, rather than answered as if it had been done."""

from __future__ import annotations

from dataclasses import replace

from models.images import ImageDocument
from models.types import DEFAULTS, ModelInfo, ScoreOptions
from serve_app.errors import InvalidRequest
from serve_app.types import RerankRequest

# Wishes that a model may have no use for: the option, and how its info says that it has.
WISHES = (
    ("instruction", "takes_instruction", "takes an instruction"),
    ("query_image", "takes_query_image", "takes an image as its query"),
    ("explain", "explains", "gives reasons"),
)


def check(info: ModelInfo, request: RerankRequest) -> None:
    """Raises InvalidRequest naming the field that the model has no use for."""
    if not info.takes_images and any(isinstance(d, ImageDocument) for d in request.documents):
        raise InvalidRequest(
            f"the model {info.name!r} reads text alone; send documents without images",
            param="documents",
        )
    if request.options.instruction is not None and not info.takes_instruction:
        raise InvalidRequest(
            f"the model {info.name!r} takes no instruction; leave the field out",
            param="instruction",
        )
    if request.options.query_image is not None and not info.takes_query_image:
        raise InvalidRequest(
            f"the model {info.name!r} takes no image as its query; send a text",
            param="query_image_url",
        )
    if request.options.explain and not info.explains:
        raise InvalidRequest(
            f"the model {info.name!r} gives no reasons; leave the field out", param="explain"
        )


def taken(options: ScoreOptions, info: ModelInfo) -> ScoreOptions:
    """The options without the wishes that this model has no use for."""
    idle = {o: getattr(DEFAULTS, o) for o, able, _ in WISHES if not getattr(info, able)}
    return replace(options, **idle) if options != DEFAULTS else options
