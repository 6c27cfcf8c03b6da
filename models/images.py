"""Image documents. Imports no torch, and an image library only when an image is read."""

from __future__ import annotations

import base64
import binascii
import io
import re
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 20 * 2**20
# Checked before decoding, because a small file can hold an image that fills the memory.
MAX_PIXELS = 50_000_000
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
# Characters of text that count as much as an image when documents are cut into chunks.
_WEIGHT = 2000


class ImageError(ValueError):
    """An image cannot be read. The message says why."""


@dataclass(frozen=True, slots=True)
class ImageDocument:
    """An image as a data URI (`data:image/png;base64,…`), optionally with text."""

    data_uri: str
    text: str = ""

    def __len__(self) -> int:
        return _WEIGHT + len(self.text)

    @property
    def identity(self) -> str:
        """Identifies the document in cache keys."""
        return f"{self.data_uri}\0{self.text}"


def decode(document: ImageDocument, *, upright: bool = False, over_white: bool = False) -> Any:
    """Decode the image to a PIL image in RGB. Raises ImageError.

    `upright` applies the EXIF orientation. `over_white` puts a transparent image on a white
    background; otherwise the alpha channel is dropped.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    found = DATA_URI.match(document.data_uri)
    if found is None:
        raise ImageError("an image must be a data URI: data:image/png;base64,…")
    if len(document.data_uri) > MAX_BYTES * 4 // 3:
        raise ImageError(f"an image has more than {MAX_BYTES} bytes")
    try:
        content = base64.b64decode(document.data_uri[found.end() :], validate=True)
        # Opening reads only the header.
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(
                f"an image has {image.width} x {image.height} pixels; the maximum is {MAX_PIXELS}"
            )
        seen: Image.Image = ImageOps.exif_transpose(image) if upright else image
        if over_white and seen.mode == "RGBA":
            white = Image.new("RGB", seen.size, (255, 255, 255))
            white.paste(seen, mask=seen.getchannel("A"))
            return white
        return seen.convert("RGB")
    except binascii.Error as error:
        raise ImageError(f"an image's base64 is invalid: {error}") from None
    except UnidentifiedImageError:
        raise ImageError(f"an image is in none of the formats {', '.join(FORMATS)}") from None
    except ImageError:
        raise
    # PIL warns between its two size limits, and warnings may be errors.
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ImageError(f"an image can't be read: {error}") from None
