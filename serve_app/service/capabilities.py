"""What a model supports of what a request asks for: anything else is refused, not ignored."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.images import ImageDocument
from models.types import DEFAULTS, ModelInfo, ScoreOptions
from serve_app.errors import InvalidRequest
from serve_app.types import RerankRequest


@dataclass(frozen=True, slots=True)
class Capability:
    """An option that not every model supports.

    `option` is its name in ScoreOptions, `flag` the one in ModelInfo that says whether the model
    supports it, `field` what requests call it; `has` and `lacks` complete "the model …".
    """

    option: str
    flag: str
    field: str
    has: str
    lacks: str

    def asked(self, options: ScoreOptions) -> bool:
        return bool(getattr(options, self.option) != getattr(DEFAULTS, self.option))

    def supported(self, info: ModelInfo) -> bool:
        return bool(getattr(info, self.flag))


CAPABILITIES = (
    Capability(
        option="instruction",
        flag="takes_instruction",
        field="instruction",
        has="takes an instruction",
        lacks="takes no instruction; leave the field out",
    ),
    Capability(
        option="query_image",
        flag="takes_query_image",
        field="query_image_url",
        has="takes an image as its query",
        lacks="takes no image as its query; send a text",
    ),
    Capability(
        option="explain",
        flag="explains",
        field="explain",
        has="gives reasons",
        lacks="gives no reasons; leave the field out",
    ),
)


def check(info: ModelInfo, request: RerankRequest) -> None:
    """Raises InvalidRequest naming the field that the model does not support."""
    if not info.takes_images and any(isinstance(d, ImageDocument) for d in request.documents):
        raise InvalidRequest(
            f"the model {info.name!r} reads text only; send documents without images",
            param="documents",
        )
    for one in CAPABILITIES:
        if one.asked(request.options) and not one.supported(info):
            raise InvalidRequest(f"the model {info.name!r} {one.lacks}", param=one.field)


def supported(options: ScoreOptions, info: ModelInfo) -> ScoreOptions:
    """Return the options without those that this model does not support."""
    if options == DEFAULTS:
        return options
    unused = [one.option for one in CAPABILITIES if not one.supported(info)]
    return replace(options, **{option: getattr(DEFAULTS, option) for option in unused})
