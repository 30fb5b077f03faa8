"""PNG, JPEG, WebP and BMP: one picture, decoded whole, with the pixels that training sees."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.pixels import read_image_pixels
from .stored_image import ImageLayout, OpenFile, StoredImage, as_source_error, check_num_pixels, choose_level

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

_pillow_limit = threading.Lock()


def open_flat(path: Path, level: int | None, max_pixels: int) -> OpenFile:
    """Decode a file whole: a palette is looked up, the camera's orientation applied, alpha dropped.

    Raises:
        SourceError: if the file is damaged or has more than ``max_pixels`` pixels.
    """
    with as_source_error(path):
        size = _size(path) if path.stat().st_size else (0, 0)
        check_num_pixels(path, size, max_pixels)
        own_limit = Image.MAX_IMAGE_PIXELS
        large = own_limit is not None and size[0] * size[1] > own_limit
        with _without_pillow_limit() if large else contextlib.nullcontext():
            pixels = read_image_pixels(lambda name: Path(name).read_bytes(), str(path))
    return OpenFile([ArrayImage(path, pixels, level)])


@contextlib.contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Pillow's limit on pixels is one for the whole process and half of what microscopes' PNG files have."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _size(path: Path) -> tuple[int, int]:
    with _without_pillow_limit(), Image.open(path) as image:
        return image.size


class ArrayImage(StoredImage):
    """(H, W) gray or (H, W, 3) color pixels in memory."""

    def __init__(self, path: Path, pixels: np.ndarray, level: int | None = None) -> None:
        choose_level(path, level, [pixels.shape[:2]])
        pixels = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
        self._pixels = pixels.reshape(*pixels.shape[:2], -1)
        names = ("red", "green", "blue") if pixels.ndim == 3 else ("0",)
        super().__init__(ImageLayout("", pixels.shape[:2], pixels.dtype, names, is_color=pixels.ndim == 3))

    def read(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        y0, x0, y1, x1 = window
        return self._pixels[y0:y1, x0:x1, list(channels)]
