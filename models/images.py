"""Image documents. Imports neither torch nor an image library before an image is read."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 20 * 2**20
# Refused before decoding: a small file can hold an image that fills the memory.
MAX_PIXELS = 50_000_000
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
# What an image weighs beside characters of text when documents are cut into chunks.
_WEIGHT = 2000


class ImageError(ValueError):
    """An image can't be read; the message says why."""


@dataclass(frozen=True, slots=True)
class ImageDocument:
    """An image as a data URI (`data:image/png;base64,…`), with text where it has some."""

    data_uri: str
    text: str = ""

    def __len__(self) -> int:
        return _WEIGHT + len(self.text)

    @property
    def identity(self) -> str:
        """What tells it from other documents, for the cache's keys."""
        return f"{self.data_uri}\0{self.text}"


def decode(document: ImageDocument, *, upright: bool = False, over_white: bool = False) -> Any:
    """The image, as PIL reads it, in RGB. Raises ImageError.

    `upright` turns it as its EXIF orientation says. `over_white` lays one with transparency over
    white; otherwise transparency is left out.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    found = DATA_URI.match(document.data_uri)
    if found is None:
        raise ImageError("an image must be a data URI: data:image/png;base64,…")
    if len(document.data_uri) > MAX_BYTES * 4 // 3:
        raise ImageError(f"an image has more than {MAX_BYTES} bytes")
    try:
        content = base64.b64decode(document.data_uri[found.end() :], validate=True)
        # Opening reads the header alone.
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"an image has {image.width} x {image.height} pixels; at most {MAX_PIXELS} are read"
            )
        seen: Image.Image = ImageOps.exif_transpose(image) if upright else image
        if over_white and seen.mode == "RGBA":
            white = Image.new("RGB", seen.size, (255, 255, 255))
            white.paste(seen, mask=seen.getchannel("A"))
            return white
        return seen.convert("RGB")
    except binascii.Error as error:
        raise ImageError(f"an image's base64 is broken: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(f"an image is none of {', '.join(FORMATS)}") from None
    except ImageError:
        raise
    # Between its two limits PIL warns, and a warning may be an error.
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ImageError(f"an image can't be read: {error}") from None
