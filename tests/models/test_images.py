"""Image documents: what is read, and what is refused before it takes memory."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import zlib

import pytest
from PIL import Image

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
        (ImageDocument("data:image/png;base64,!!!"), "base64 is invalid"),
        (_uri(b"not an image"), "in none of"),
        (_uri(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "in none of"),
        (ImageDocument(document(picture(200, 200)).data_uri[:400]), "base64|can't be read"),
    ],
)
def test_other_content_is_refused(broken: ImageDocument, match: str) -> None:
    with pytest.raises(ImageError, match=match):
        decode(broken)


def test_large_images_are_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(ImageError, match="10 x 10 pixels"):
        decode(document(picture(10, 10)))
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match="more than 10 bytes"):
        decode(document(picture(4, 4)))


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000])
def test_decompression_bombs_are_refused_by_their_header(side: int) -> None:
    png = b"\x89PNG\r\n\x1a\n"
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    for chunk in (header, b"IDAT" + zlib.compress(bytes(1000))):
        png += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    with pytest.raises(ImageError, match="pixels"):
        decode(_uri(png))


def test_transparency_and_orientation_are_applied_on_request() -> None:
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert decode(document(clear)).getpixel((0, 0)) == (0, 0, 0)
    assert decode(document(clear), over_white=True).getpixel((0, 0)) == (255, 255, 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture(20, 10).save(buffer, format="jpeg", exif=exif)
    assert decode(_uri(buffer.getvalue())).size == (20, 10)
    assert decode(_uri(buffer.getvalue()), upright=True).size == (10, 20)


def test_the_module_loads_no_image_library() -> None:
    code = "import sys, models.images; print('PIL' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]
