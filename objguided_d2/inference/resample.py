"""A region of a resized image without resizing the whole: Pillow's bilinear resize, value for value.

Detectron2's ``ResizeTransform`` resizes 8-bit images by Pillow, which averages over a triangle as wide as an output
pixel when it shrinks. A tile of a large image must hold just the values that it would hold in the whole resized image,
so its taps are placed by the whole image's sizes. Each row is resized before the columns are; Pillow 13 swaps the two
where rows shrink by more than twice what columns do, as in tall images, and values may then differ by one gray level.
"""

from collections.abc import Callable

import numpy as np

# Pillow keeps weights as integers of so many fractional bits and rounds each of its two passes to 8 bits.
_PRECISION_BITS = 22
# What would read more source pixels than these is resized in halves, for the memory of it. Halves are wide ones down to
# so many source rows, because a strip of a file spans its whole width.
MOST_PIXELS, _FEW_ROWS = 2**22, 1024

Region = tuple[int, int, int, int]


def resize_region(
    read: Callable[[int, int, int, int], np.ndarray],
    source_size: tuple[int, int],
    target_size: tuple[int, int],
    region: Region,
) -> np.ndarray:
    """Resize the part of an image that a region of the result depends on.

    Args:
        read: gives rows y0 to y1 and columns x0 to x1 of the source, (y1 - y0, x1 - x0, C) uint8, for (y0, x0, y1, x1);
            called for one window after another where the region depends on more than ``MOST_PIXELS``.
        source_size, target_size: (height, width) of the whole image before and after.
        region: y0, x0, y1, x1 in the resized image, far edges exclusive.

    Returns:
        (y1 - y0, x1 - x0, C) uint8.
    """
    y0, x0, y1, x1 = region
    rows, row_weights = _taps(source_size[0], target_size[0], y0, y1)
    columns, column_weights = _taps(source_size[1], target_size[1], x0, x1)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    if (bottom - top) * (right - left) > MOST_PIXELS and (y1 - y0, x1 - x0) != (1, 1):
        by_rows = x1 - x0 == 1 or (y1 - y0 > 1 and bottom - top > _FEW_ROWS)
        y, x = ((y0 + y1) // 2, x1) if by_rows else (y1, (x0 + x1) // 2)
        halves = (y0, x0, y, x), ((y, x0) if by_rows else (y0, x)) + (y1, x1)
        parts = [resize_region(read, source_size, target_size, half) for half in halves]
        return np.concatenate(parts, axis=0 if by_rows else 1)
    pixels = read(int(top), int(left), int(bottom), int(right))
    if source_size[1] != target_size[1]:
        pixels = _resample(pixels.swapaxes(0, 1), columns - left, column_weights).swapaxes(0, 1)
    if source_size[0] != target_size[0]:
        pixels = _resample(pixels, rows - top, row_weights)
    return np.ascontiguousarray(pixels)


def _taps(source: int, target: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Which source pixels output pixels ``begin`` to ``end`` read, (n, taps) int64, and their weights, (n, taps) int32.

    The steps and their order are those of Pillow's ``precompute_coeffs``, so that rounding is the same. Taps beyond the
    last one of a pixel repeat it with weight 0.
    """
    if source == target:
        return np.arange(begin, end)[:, None], np.full((end - begin, 1), 1 << _PRECISION_BITS, np.int32)
    scale = source / target
    support = max(scale, 1.0)
    center = (np.arange(begin, end) + 0.5) * scale
    first = np.maximum((center - support + 0.5).astype(np.int64), 0)
    last = np.minimum((center + support + 0.5).astype(np.int64), source)
    step = np.arange((last - first).max())
    weight = np.maximum(1.0 - np.abs((step + first[:, None] - center[:, None] + 0.5) * (1.0 / support)), 0.0)
    weight[step >= (last - first)[:, None]] = 0.0
    total = np.zeros(len(first))
    for k in step:
        total += weight[:, k]
    weight /= total[:, None]
    index = np.minimum(step + first[:, None], last[:, None] - 1)
    return index, (weight * (1 << _PRECISION_BITS) + 0.5).astype(np.int32)


def _resample(pixels: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sums of rows: (H, W, C) uint8 -> (n, W, C) uint8."""
    total = np.full((len(index), *pixels.shape[1:]), 1 << (_PRECISION_BITS - 1), np.int32)
    for k in range(index.shape[1]):
        total += pixels[index[:, k]] * weight[:, k, None, None]
    return np.clip(total >> _PRECISION_BITS, 0, 255).astype(np.uint8)
