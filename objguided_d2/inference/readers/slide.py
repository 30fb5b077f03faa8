"""Whole slide images through tiffslide or openslide: windows at a level of their pyramid."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .stored_image import ImageLayout, OpenFile, StoredImage, as_source_error, check_num_pixels, choose_level

SUFFIXES = (".svs", ".ndpi", ".scn", ".mrxs", ".bif", ".vms", ".vmu", ".svslide")

# tiffslide reads these; the others need openslide.
_TIFFSLIDE_SUFFIXES = (".svs", ".ndpi", ".scn", ".bif")


def open_slide(path: Path, level: int | None) -> OpenFile:
    """Open a slide without reading its pixels.

    Raises:
        SourceError: if it is damaged or has no such level.
        ImportError: if neither library that reads it is installed; it says what to install.
    """
    library = _library(path)
    with as_source_error(path):
        slide = library(path)
        try:
            shapes = [(height, width) for width, height in slide.level_dimensions]
            image = SlideImage(path, slide, choose_level(path, level, shapes))
        except BaseException:
            slide.close()
            raise
    return OpenFile([image], slide.close)


def _library(path: Path) -> Any:
    candidates = [("openslide", "OpenSlide")]
    if path.suffix.lower() in _TIFFSLIDE_SUFFIXES:
        candidates.insert(0, ("tiffslide", "TiffSlide"))
    for module, name in candidates:
        try:
            return getattr(importlib.import_module(module), name)
        except ImportError:
            continue
    package = "'objguided_d2[slides]'" if len(candidates) > 1 else "openslide-python openslide-bin"
    raise ImportError(f"{path} is a whole slide image: pip install {package}")


class SlideImage(StoredImage):
    """(H, W, 3) uint8 RGB of one level; what was not scanned is white."""

    def __init__(self, path: Path, slide: Any, level: int) -> None:
        self._path, self._slide, self._level = path, slide, level
        width, height = slide.level_dimensions[level]
        self._downsample = float(slide.level_downsamples[level])
        sizes = [slide.properties.get(f"{slide.__module__.split('.')[0]}.mpp-{axis}") for axis in "yx"]
        pixel_size = (float(sizes[0]) * self._downsample, float(sizes[1]) * self._downsample) if all(sizes) else None
        colors = ("red", "green", "blue")
        super().__init__(
            ImageLayout("", (height, width), np.dtype(np.uint8), colors, is_color=True, pixel_size=pixel_size)
        )

    def read(self, time: int, z: int, channels: Sequence[int], window: tuple[int, int, int, int]) -> np.ndarray:
        y0, x0, y1, x1 = window
        check_num_pixels(self._path, (y1 - y0, x1 - x0))
        # Positions count in pixels of the full resolution.
        position = round(x0 * self._downsample), round(y0 * self._downsample)
        region = self._slide.read_region(position, self._level, (x1 - x0, y1 - y0))
        pixels = np.asarray(region)
        if pixels.shape[-1] == 4:
            alpha = pixels[..., 3:].astype(np.uint16)
            pixels = ((pixels[..., :3] * alpha + 255 * (255 - alpha)) // 255).astype(np.uint8)
        return pixels[..., list(channels)]
