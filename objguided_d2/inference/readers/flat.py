"""PNG, JPEG, WebP, BMP and JPEG 2000: one picture, decoded whole, with the pixels that training sees."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...data.pixels import read_image_pixels
from .stored_image import ImageLayout, OpenFile, StoredImage, as_source_error, choose_level

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".jp2")


def open_flat(path: Path, level: int | None) -> OpenFile:
    """Decode a file whole: a palette is looked up, the camera's orientation applied, alpha dropped.

    Raises:
        SourceError: if the file is damaged or too large to decode.
    """
    with as_source_error(path):
        pixels = read_image_pixels(lambda name: Path(name).read_bytes(), str(path))
        choose_level(path, level, [pixels.shape[:2]])
    return OpenFile([ArrayImage(pixels)])


class ArrayImage(StoredImage):
    """(H, W) gray or (H, W, 3) color pixels in memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        pixels = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
        self._pixels = pixels.reshape(*pixels.shape[:2], -1)
        names = ("red", "green", "blue") if pixels.ndim == 3 else ("0",)
        super().__init__(ImageLayout("", pixels.shape[:2], pixels.dtype, names, is_color=pixels.ndim == 3))

    def read(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        y0, x0, y1, x1 = window
        return self._pixels[y0:y1, x0:x1, list(channels)]
