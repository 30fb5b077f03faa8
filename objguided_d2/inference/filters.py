"""Filters of objects, each off unless asked for."""

import dataclasses
import math

import numpy as np
from scipy import ndimage

from .objects import SegmentedObjects

_EIGHT_NEIGHBORS = np.ones((3, 3), bool)


@dataclasses.dataclass(frozen=True)
class Filters:
    """What to change and leave out, in this order; the defaults do nothing.

    Attributes:
        largest_piece: of a mask in several pieces (8-connected) keep the largest.
        fill_holes: fill holes of masks.
        min_area, max_area: in pixels of the image; objects outside are left out.
        exclude_border: leave out objects that touch the border of the image.

    Raises:
        ValueError: for areas that are no finite numbers from 0 on, or leave nothing between them; names them.
    """

    largest_piece: bool = False
    fill_holes: bool = False
    min_area: float = 0.0
    max_area: float | None = None
    exclude_border: bool = False

    def __post_init__(self) -> None:
        for name in ("min_area", "max_area"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name}: {value!r} must be a number of pixels, 0 or more")
        if self.max_area is not None and self.max_area < self.min_area:
            raise ValueError(
                f"max_area: {self.max_area!r} is below min_area: {self.min_area!r}; no object has such an area"
            )

    def __call__(self, objects: SegmentedObjects) -> tuple[SegmentedObjects, np.ndarray]:
        """The objects that are left, and which of those given they are, (N,) int64."""
        boxes, masks = objects.boxes.copy(), list(objects.masks)
        for i in range(len(masks) if self.largest_piece or self.fill_holes else 0):
            if self.largest_piece:
                boxes[i], masks[i] = _largest_piece(boxes[i], masks[i])
            if self.fill_holes:
                masks[i] = ndimage.binary_fill_holes(masks[i])
        areas = np.array([mask.sum() for mask in masks], np.int64)
        kept = areas >= self.min_area
        if self.max_area is not None:
            kept &= areas <= self.max_area
        if self.exclude_border:
            height, width = objects.shape
            x0, y0, x1, y1 = boxes.T
            kept &= (x0 > 0) & (y0 > 0) & (x1 < width) & (y1 < height)
        kept = np.flatnonzero(kept)
        left = dataclasses.replace(
            objects,
            boxes=boxes[kept],
            masks=[masks[i] for i in kept],
            scores=objects.scores[kept],
            classes=objects.classes[kept],
        )
        return left, kept

    @property
    def changes_masks(self) -> bool:
        return self.largest_piece or self.fill_holes


def _largest_piece(box: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pieces, count = ndimage.label(mask, structure=_EIGHT_NEIGHBORS)
    if count < 2:
        return box, mask
    piece = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    (rows, columns), *_ = ndimage.find_objects(piece.astype(np.uint8))
    x0, y0 = box[:2]
    tight = np.array([x0 + columns.start, y0 + rows.start, x0 + columns.stop, y0 + rows.stop])
    return tight, piece[rows, columns].copy()
