"""What a reader of one file format gives: the images in a file, and windows of them.

An image is T time points x Z slices x C channels of H x W pixels. Windows are half-open, in whole pixels of the level
that was opened: rows y0 to y1 - 1, columns x0 to x1 - 1.
"""

import contextlib
import dataclasses
import math
import numbers
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...data.source_error import SourceError

LIMIT_VARIABLE = "OBJGUIDED_D2_MAX_PIXELS"
_DEFAULT_LIMIT = 178_956_970  # where Pillow refuses too


@dataclasses.dataclass(frozen=True)
class ImageLayout:
    """What is known of an image before its pixels are read.

    Attributes:
        name: of the image in its file, "" if it has none.
        shape: (H, W).
        dtype: of the pixels as they are read.
        channel_names: C names; their numbers where the file has no names.
        is_color: the channels are red, green and blue of one picture.
        num_times: T.
        num_slices: Z.
        pages_unknown: the T time points are pages of which the file does not say what they are.
        pixel_size: micrometers per pixel (height, width), None if unknown.
    """

    name: str
    shape: tuple[int, int]
    dtype: np.dtype
    channel_names: tuple[str, ...]
    is_color: bool = False
    num_times: int = 1
    num_slices: int = 1
    pages_unknown: bool = False
    pixel_size: tuple[float, float] | None = None


class StoredImage(ABC):
    """An image in an open file."""

    def __init__(self, layout: ImageLayout) -> None:
        self.layout = layout

    @abstractmethod
    def read(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        """Read (y1 - y0, x1 - x0, len(channels)) pixels of a window (y0, x0, y1, x1)."""


@dataclasses.dataclass(frozen=True)
class OpenFile:
    """The images of a file, one or more, and how to close it."""

    images: Sequence[StoredImage]
    close: Callable[[], None] = lambda: None


@contextlib.contextmanager
def as_source_error(path: Path, what: str = "") -> Iterator[None]:
    """Turn any error of a decoder into a :class:`SourceError` of one line that names the file.

    Decoders of damaged files raise what they like (struct.error, IndexError, imagecodecs' own types, ...).
    """
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{path}{what} cannot be read ({reason}); copy it again or save it as TIFF") from error


def check_num_pixels(path: Path, shape: Sequence[int]) -> None:
    """Refuse to decode more pixels in one piece than the environment's ``OBJGUIDED_D2_MAX_PIXELS`` allows.

    Raises:
        SourceError: if the product of ``shape`` is above the limit.
    """
    num_pixels = math.prod(int(size) for size in shape)
    limit = int(os.environ.get(LIMIT_VARIABLE) or _DEFAULT_LIMIT)
    if num_pixels > limit:
        raise SourceError(
            f"{path} holds {num_pixels:,} pixels in one piece, more than {limit:,}; save it as a tiled TIFF, or set "
            f"{LIMIT_VARIABLE} to a higher number if it comes from where you trust"
        )


def choose_level(path: Path, level: int | None, level_shapes: Sequence[tuple[int, int]]) -> int:
    """The level of a pyramid to read, the full resolution by default.

    Raises:
        SourceError: if there is no such level.
    """
    level = 0 if level is None else level
    if not (isinstance(level, numbers.Integral) and 0 <= level < len(level_shapes)):
        sizes = ", ".join(f"{i}: {height} x {width}" for i, (height, width) in enumerate(level_shapes))
        raise SourceError(f"{path} has no level {level!r}; its levels are {sizes}")
    return level


def level_pixel_size(
    pixel_size: tuple[float, float] | None, full: tuple[int, int], level: tuple[int, int]
) -> tuple[float, float] | None:
    """Pixel size of a level of ``level`` pixels, from that of the full resolution of ``full`` pixels."""
    if pixel_size is None:
        return None
    return pixel_size[0] * full[0] / level[0], pixel_size[1] * full[1] / level[1]
