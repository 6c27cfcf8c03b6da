"""Image documents: what is read, and what is refused before it costs memory."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from models import images
from models.images import ImageDocument, ImageError, decode
from tests.models.vision_checkpoints import document, picture


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp"])
def test_common_formats_are_read(kind: str) -> None:
    image = decode(document(picture(20, 10), kind=kind))
    assert (image.size, image.mode) == ((20, 10), "RGB")


def _uri(content: bytes) -> ImageDocument:
    return ImageDocument("data:image/png;base64," + base64.b64encode(content).decode())


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        (ImageDocument("https://example.org/cat.png"), "must be a data URI"),
        (ImageDocument("data:text/html;base64,AAAA"), "must be a data URI"),
        (ImageDocument("data:image/png;base64,!!!"), "base64 is broken"),
        (_uri(b"not an image"), "is none of"),
        (_uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "is none of"),
        (ImageDocument(document(picture(200, 200)).data_uri[:400]), "base64|can't be read"),
    ],
)
def test_what_is_no_image(broken: ImageDocument, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        decode(broken)


def test_too_large_ones_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(ImageError, match="10 x 10 pixels"):
        decode(document(picture(10, 10)))
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match="more than 10 bytes"):
        decode(document(picture(4, 4)))


def test_the_module_loads_no_image_library() -> None:
    code = "import sys, models.images; print('PIL' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
