"""How large an untrusted file may become when it is decoded: small files that claim huge contents are refused."""

import os

from .source_error import SourceError

VARIABLE = "OBJGUIDED_D2_MAX_PIXELS"
DEFAULT_MAX_PIXELS = 178_956_970  # where Pillow refuses too
MAX_BYTES_PER_PIXEL = 8


def max_pixels() -> int:
    """The largest image that is read, in pixels: OBJGUIDED_D2_MAX_PIXELS of the environment, else the default.

    Raises:
        SourceError: if the variable is no positive whole number.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        value = int(text) if text else DEFAULT_MAX_PIXELS
    except ValueError:
        value = 0
    if value < 1:
        raise SourceError(f"the environment variable {VARIABLE} is {text!r}; set it to a number of pixels or unset it")
    return value


def check_pixels(pixels: int, name: str) -> None:
    """Raise SourceError for an image of more pixels than are read."""
    if pixels > max_pixels():
        raise SourceError(
            f"{name} claims {pixels:,} pixels, more than {max_pixels():,}; cut it into tiles, or set {VARIABLE} to "
            "a higher number if it comes from where you trust"
        )


def check_bytes(size: int, name: str) -> None:
    """Raise SourceError for a file, or archive member, that unpacks to more bytes than an image may have."""
    if size > MAX_BYTES_PER_PIXEL * max_pixels():
        raise SourceError(
            f"{name} unpacks to {size:,} bytes, more than {MAX_BYTES_PER_PIXEL * max_pixels():,}; set {VARIABLE} "
            f"(pixels, {MAX_BYTES_PER_PIXEL} bytes each) to a higher number if it comes from where you trust"
        )
