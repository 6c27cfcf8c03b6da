"""A model refuses the options that it does not support."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.images import ImageDocument, ImageError
from models.types import DEFAULTS, ModelInfo, ScoreOptions
from serve_app.errors import InvalidRequest
from serve_app.request_options import OPTIONS
from serve_app.service.capabilities import check, supported
from serve_app.types import RerankRequest
from tests.serve_app.fakes import INFO, WordOverlap, ask, make_service, named

VALUES: dict[str, Any] = {
    "instruction": "find cats",
    "query_image_url": "https://example.org/a.png",
    "explain": True,
}
LIMITED = [name for name, option in OPTIONS.items() if option.capability]
UNLIMITED: list[dict[str, Any]] = [{"max_tokens_per_doc": 5}, {"long_document": "max_passage"}]


def options_with(name: str) -> ScoreOptions:
    attribute = OPTIONS[name].attribute
    assert attribute is not None
    return ScoreOptions(max_tokens_per_doc=5, **{attribute: VALUES[name]})


def capable(name: str) -> ModelInfo:
    """A model that supports this option and no other."""
    capability = OPTIONS[name].capability
    assert capability is not None
    return replace(INFO, **{capability.flag: True})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LIMITED)
def test_an_option_is_refused_by_models_without_its_capability(name: str) -> None:
    request = ask("a", options=options_with(name))
    capability = OPTIONS[name].capability
    assert capability is not None
    for info in (INFO, *(capable(other) for other in LIMITED if other != name)):
        with pytest.raises(InvalidRequest, match=f"'words' {capability.lacks}") as caught:
            check(info, request)
        assert caught.value.param == name
    check(capable(name), request)


@pytest.mark.parametrize("name", LIMITED)
def test_unsupported_options_are_removed_for_a_stage(name: str) -> None:
    options = options_with(name)
    assert supported(options, capable(name)) == options
    assert supported(options, INFO) == ScoreOptions(max_tokens_per_doc=5)


@pytest.mark.parametrize("fields", UNLIMITED)
def test_other_options_need_no_capability(fields: dict[str, Any]) -> None:
    options = ScoreOptions(**fields)
    check(INFO, ask("a", options=options))
    assert supported(options, INFO) == options


def test_default_options_are_returned_unchanged() -> None:
    assert supported(DEFAULTS, INFO) is DEFAULTS


async def test_an_instruction_needs_a_model_that_supports_it() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    request = ask("a", options=ScoreOptions(instruction="find cats"))
    with pytest.raises(InvalidRequest, match="does not support instructions"):
        await service.rerank(request)
    backend.info_ = replace(INFO, takes_instruction=True)
    assert (await service.rerank(request)).results[0].index == 0


async def test_images_need_a_model_that_supports_them_and_are_cached() -> None:
    backend = WordOverlap()
    service = make_service(backend)
    image = ImageDocument("data:image/png;base64,AAAA", "a")
    with pytest.raises(InvalidRequest, match="accepts text only"):
        await service.rerank(ask(image))
    backend.info_ = replace(INFO, takes_images=True)
    backend.failures = [ImageError("an image is none of PNG")]
    with pytest.raises(InvalidRequest, match="an image is none of PNG"):
        await service.rerank(ask(image))
    await service.rerank(ask(image, image, "a"))
    assert backend.rows == 2
    await service.rerank(ask(image))
    assert backend.rows == 2


async def test_an_image_query_is_accepted_only_by_models_that_take_one() -> None:
    backend = named("words")
    service = make_service(backend)
    asked = RerankRequest("", ("a",), options=ScoreOptions(query_image="https://x.org/a.png"))
    with pytest.raises(InvalidRequest, match="does not support an image as the query"):
        await service.rerank(asked)
    backend.info_ = replace(backend.info_, takes_query_image=True)
    await service.rerank(asked)
    await service.rerank(asked)
    other = replace(asked, options=ScoreOptions(query_image="https://x.org/b.png"))
    await service.rerank(other)
    assert backend.rows == 2
