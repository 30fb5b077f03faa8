"""Instances drawn over their image, and sheets of such pictures side by side.

Images are uint8 RGB (H, W, 3); masks are boolean (N, H, W).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .atomic_write import atomic_write

# Hues far apart, all of middling lightness, so that a thin line shows on black, on gray and on white.
PALETTE = np.array(
    [
        (230, 60, 50), (40, 160, 60), (60, 110, 255), (240, 150, 0), (190, 70, 220), (0, 170, 180),
        (235, 60, 150), (140, 150, 20), (110, 90, 230), (180, 105, 50), (20, 150, 120), (205, 110, 130),
    ],
    dtype=np.uint8,
)  # fmt: skip

_NEIGHBOR_GAP = 3  # pixels between the boxes of two instances that the eye still takes for neighbors
_MARGIN = 4
_CAPTION_HEIGHT = 18
_CAPTION_SCALE = 0.42
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Tile(NamedTuple):
    """One picture of a sheet: uint8 RGB (H, W, 3), or gray (H, W), with the line of ASCII text above it."""

    image: np.ndarray
    caption: str = ""


def neighbor_colors(masks: np.ndarray) -> np.ndarray:
    """Choose a palette color for each instance so that neighbors differ.

    Instances are neighbors if their bounding boxes come within a few pixels. Each takes, in order, the color
    used least among the neighbors that have one: twelve colors are enough to keep all but dense heaps apart.

    Args:
        masks: (N, H, W) bool.

    Returns:
        (N, 3) uint8 RGB.
    """
    boxes = np.array([_bounding_box(mask) for mask in masks], dtype=np.int64).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, 2:] + _NEIGHBOR_GAP
    near = ((low[:, None] <= high[None]) & (low[None] <= high[:, None])).all(axis=2)
    chosen = np.zeros(len(masks), dtype=np.int64)
    for i in range(len(masks)):
        uses = np.bincount(chosen[:i][near[i, :i]], minlength=len(PALETTE))
        # Start the search at another color each time, or the first ones would fill the picture.
        order = (np.arange(len(PALETTE)) + i) % len(PALETTE)
        chosen[i] = order[np.argmin(uses[order])]
    return PALETTE[chosen]


def draw_instances(
    image: np.ndarray,
    masks: np.ndarray,
    *,
    colors: np.ndarray | None = None,
    fill: float = 0.25,
    zoom: int = 1,
) -> np.ndarray:
    """Draw each instance as a one-pixel outline, just inside its edge, and a tint.

    Args:
        image: uint8 RGB (H, W, 3) or gray (H, W). It is not changed.
        masks: (N, H, W) bool. Where masks overlap, the later is drawn over the earlier.
        colors: (N, 3) uint8 RGB; by default :func:`neighbor_colors`.
        fill: opacity of the tint inside the outline, 0 = outline only.
        zoom: enlarge the picture by this whole factor first: outlines stay one pixel wide, so small objects
            stay visible under them.

    Returns:
        uint8 RGB (H * zoom, W * zoom, 3).

    Raises:
        ValueError: if the masks and the image differ in size.
    """
    masks = np.asarray(masks, dtype=bool)
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise ValueError(f"masks have shape {masks.shape}, expected (N, {image.shape[0]}, {image.shape[1]})")
    picture = _enlarge(_as_rgb(image), zoom)
    for mask, color in zip(masks, neighbor_colors(masks) if colors is None else colors, strict=True):
        x0, y0, x1, y1 = _bounding_box(mask)
        if x1 <= x0:
            continue
        shape = _enlarge(mask[y0:y1, x0:x1].astype(np.uint8), zoom)
        view = picture[y0 * zoom : y1 * zoom, x0 * zoom : x1 * zoom]
        inside = shape > 0
        view[inside] = (1 - fill) * view[inside] + fill * np.asarray(color, dtype=np.float64) + 0.5
        # cv2 draws in place only on a contiguous array, which a view of the picture is not.
        drawn = np.ascontiguousarray(view)
        contours, _ = cv2.findContours(shape, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, [int(c) for c in color], thickness=1)
        view[:] = drawn
    return picture


def contact_sheet(
    tiles: Sequence[Tile | tuple[np.ndarray, str]],
    columns: int,
    path: str | os.PathLike | None = None,
    *,
    tile_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Lay tiles out row by row on a white sheet, each under its caption.

    Args:
        tiles: pictures with captions, row after row (e.g. input, truth, prediction for each image).
        columns: tiles per row.
        path: where to write the sheet; the ending gives the format. An existing file is replaced only once the
            new one is complete.
        tile_size: (height, width) of a cell in pixels; by default the largest tile in each direction. A picture
            is scaled to the largest size that fits its cell, aspect kept, and centered there.

    Returns:
        The sheet, uint8 RGB.

    Raises:
        ValueError: if there is no tile, ``columns`` is not positive, or the ending names no image format.
    """
    tiles = [Tile(*tile) for tile in tiles]
    if not tiles or columns < 1:
        raise ValueError(f"a sheet needs tiles and columns, got {len(tiles)} tiles and columns={columns}")
    height, width = tile_size or np.max([tile.image.shape[:2] for tile in tiles], axis=0)
    rows = -(-len(tiles) // columns)
    caption_height = _CAPTION_HEIGHT if any(tile.caption for tile in tiles) else 0
    step_y, step_x = caption_height + height + _MARGIN, width + _MARGIN
    sheet = np.full((rows * step_y + _MARGIN, columns * step_x + _MARGIN, 3), 255, dtype=np.uint8)
    for k, tile in enumerate(tiles):
        y, x = _MARGIN + k // columns * step_y, _MARGIN + k % columns * step_x
        picture = _fit(_as_rgb(tile.image), height, width)
        _write_caption(sheet[y : y + caption_height, x : x + width], tile.caption)
        top = y + caption_height + (height - picture.shape[0]) // 2
        left = x + (width - picture.shape[1]) // 2
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    if path is not None:
        _write_image(sheet, Path(path))
    return sheet


def _bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1), the end exclusive; all zero for an empty mask."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height


def _as_rgb(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8:
        raise ValueError(f"an image has dtype {image.dtype}, expected uint8: scale its values to 0..255 first")
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _enlarge(array: np.ndarray, factor: int) -> np.ndarray:
    """A copy with every pixel repeated ``factor`` times in both directions."""
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def _fit(image: np.ndarray, height: int, width: int) -> np.ndarray:
    scale = min(height / image.shape[0], width / image.shape[1])
    if scale == 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def _write_caption(strip: np.ndarray, caption: str) -> None:
    """Write black text into the white ``strip``; what does not fit is cut off."""
    if caption:
        text = np.full(strip.shape, 255, dtype=np.uint8)
        cv2.putText(text, caption, (1, len(strip) - 6), _FONT, _CAPTION_SCALE, (0, 0, 0), 1, cv2.LINE_AA)
        strip[:] = text


def _write_image(image: np.ndarray, path: Path) -> None:
    if not cv2.haveImageWriter(path.name):
        raise ValueError(f"{path}: cannot write an image of type '{path.suffix}', use .png or .jpg")
    _, encoded = cv2.imencode(path.suffix, image[..., ::-1])
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded)
