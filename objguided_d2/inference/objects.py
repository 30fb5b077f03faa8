"""The objects found in one image, of any size: a mask per object, cropped to its box.

N objects in an image of H x W pixels. Coordinates are whole pixels of the image as it is stored; far corners are
exclusive: a box [2, 5, 4, 9] covers columns 2-3 and rows 5-8.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class SegmentedObjects:
    """N objects, best score first. Masks may overlap.

    Attributes:
        shape: (H, W) of the image.
        boxes: (N, 4) int64, x0, y0, x1, y1: the smallest box that holds each mask.
        masks: N bool arrays, (y1 - y0, x1 - x0) each.
        scores: (N,) float32 in [0, 1].
        classes: (N,) int64, indices into ``class_names``.
        class_names: names of the model's classes.
        pixel_size: micrometers per pixel (height, width), None if unknown.
    """

    shape: tuple[int, int]
    boxes: np.ndarray
    masks: list[np.ndarray] = field(repr=False)
    scores: np.ndarray
    classes: np.ndarray
    class_names: tuple[str, ...] = ("object",)
    pixel_size: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.boxes)
