"""The image with numbered outlines, to look at."""

import math
from pathlib import Path

import cv2
import numpy as np

from ...data.intensity import DEFAULT, IntensityMapping, to_rgb8
from ...utils.atomic_write import atomic_write
from ...utils.contact_sheet import PALETTE
from ..objects import SegmentedObjects
from .image_crops import Image, check_shape, crop

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST_TEXT, _LARGEST_TEXT = 0.3, 0.6
_LETTER_WIDTH = 20.0  # of the font at scale 1
_MOST_PIXELS, _BAND_PIXELS = 2**25, 2**24


def draw_overlay(objects: SegmentedObjects, image: np.ndarray) -> np.ndarray:
    """Draw outlines just inside the masks, and their numbers in the label image at their centers.

    Args:
        image: (H, W) or (H, W, C), any type. What has more than 8 bits is stretched from its 0.1 to its 99.9
            percentile; of two channels the third color is black, of more than three the first three are shown.

    Returns:
        (H, W, 3) uint8 RGB.
    Raises:
        ValueError: if the image is not as large as the objects' one.
    """
    check_shape(image, objects.shape)
    return _draw(objects, image, 1)


def _draw(objects: SegmentedObjects, image: np.ndarray, step: int) -> np.ndarray:
    """Draw on an image of every ``step``-th row and column."""
    canvas = np.ascontiguousarray(_to_display(image))
    seen = []
    for i in range(len(objects) - 1, -1, -1):
        x0, y0 = objects.boxes[i, :2].tolist()
        mask = objects.masks[i][-y0 % step :: step, -x0 % step :: step]
        if mask.any():
            left, top = -(-x0 // step), -(-y0 // step)
            canvas[top : top + mask.shape[0], left : left + mask.shape[1]][_inner_border(mask)] = PALETTE[
                i % len(PALETTE)
            ]
            seen.append((i, left, top, mask))
    for i, left, top, mask in reversed(seen):
        _draw_number(canvas, str(i + 1), left, top, mask)
    return canvas


def _to_display(image: np.ndarray) -> np.ndarray:
    if image.ndim == 3:
        if image.shape[2] == 1:
            image = image[..., 0]
        elif image.shape[2] == 2:
            image = np.concatenate([image, np.zeros_like(image[..., :1])], axis=2)
        else:
            image = image[..., :3]
    eight_bits = image.dtype in (np.uint8, bool)
    return to_rgb8(image, None if eight_bits else IntensityMapping.parse(DEFAULT)).copy()


def _inner_border(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _draw_number(canvas: np.ndarray, text: str, left: int, top: int, mask: np.ndarray) -> None:
    rows, columns = np.nonzero(mask)
    scale = float(np.clip(mask.shape[1] / (_LETTER_WIDTH * len(text) * 1.5), _SMALLEST_TEXT, _LARGEST_TEXT))
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    corner = (
        int(np.clip(left + columns.mean() - width / 2, 0, max(canvas.shape[1] - width, 0))),
        int(np.clip(top + rows.mean() + height / 2, height, max(canvas.shape[0] - 1, height))),
    )
    # A dark rim keeps the number readable on any image.
    cv2.putText(canvas, text, corner, _FONT, scale, (0, 0, 0), 2, cv2.LINE_AA)
    cv2.putText(canvas, text, corner, _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def write_overlay(objects: SegmentedObjects, path: Path, *, image: Image | None = None) -> None:
    """Write :func:`draw_overlay` as PNG, of every k-th row and column if the image has more than 32 megapixels.

    Raises:
        ValueError: without an image, or with one that is not as large as the objects' one.
    """
    if image is None:
        raise ValueError(f"{path}: an overlay needs the image to draw on")
    check_shape(image, objects.shape)
    height, width = objects.shape
    step = math.ceil(math.sqrt(height * width / _MOST_PIXELS))
    rows = max(1, _BAND_PIXELS // (width * step)) * step
    bands = [crop(image, y, 0, min(y + rows, height), width)[::step, ::step] for y in range(0, height, rows)]
    _, png = cv2.imencode(".png", _draw(objects, np.concatenate(bands), step)[..., ::-1])
    with atomic_write(path) as temporary:
        temporary.write_bytes(png.tobytes())
