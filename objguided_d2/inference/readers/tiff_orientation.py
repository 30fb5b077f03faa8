"""The tag Orientation of TIFF and EXIF, 1 to 8: which way the stored rows and columns run."""

import numpy as np
import tifffile

_SWAPPED, _MIRRORED, _UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


def orientation_of(page: tifffile.TiffPage) -> int:
    """The tag's value; 1, as stored, where there is none."""
    return int(page.tags.valueof("Orientation", 1) or 1)


def is_swapped(orientation: int) -> bool:
    """Whether stored rows are columns of the upright image."""
    return orientation in _SWAPPED


def stored_window(
    window: tuple[int, int, int, int], shape: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Where a window (y0, x0, y1, x1) of the upright image of ``shape`` (H, W) is stored."""
    y0, x0, y1, x1 = window
    if orientation in _UPSIDE_DOWN:
        y0, y1 = shape[0] - y1, shape[0] - y0
    if orientation in _MIRRORED:
        x0, x1 = shape[1] - x1, shape[1] - x0
    return (x0, y0, x1, y1) if orientation in _SWAPPED else (y0, x0, y1, x1)


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored (h, w, C) pixels."""
    if orientation in _SWAPPED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in _UPSIDE_DOWN else pixels
