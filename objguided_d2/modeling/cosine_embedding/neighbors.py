"""Which pixels an object's embedding must differ from: those of others near it.

One image of H x W pixels; labels as in ``modeling/label_map.py``.
"""

from typing import NamedTuple

import cv2
import torch
from torch import Tensor

from ...structures.ragged_grid import RaggedGrid
from ..label_map import IGNORED, label_boxes


class Neighbors(NamedTuple):
    """M pairs of an object and a pixel that is not its own.

    Attributes:
        label: (M,) int64, 0 for the background, which is an object like any other.
        pixel: (M,) int64, flat indices into H x W.
    """

    label: Tensor
    pixel: Tensor

    def to(self, device: torch.device) -> "Neighbors":
        return Neighbors(self.label.to(device, non_blocking=True), self.pixel.to(device, non_blocking=True))


def find_neighbors(label_map: Tensor, num_objects: int, distance: int) -> Neighbors:
    """The neighbors of every object, and of the background, whose neighbors are all objects' pixels.

    All objects are found at once: the window around each, wider than it by ``distance`` on every side, is laid beside
    the last one, and one distance transform of all windows tells which of their pixels are near. In another window no
    object is as near as that.

    Args:
        label_map: (H, W) int64 on the CPU.
        num_objects: labels go from 1 to this; one without a pixel has no neighbors.
        distance: in pixels, center to center; a pixel so far away is still a neighbor.

    Returns:
        pairs on the CPU, those of the background last; ``IGNORED`` pixels are in none.
    """
    height, width = label_map.shape
    flat = label_map.flatten()
    of_objects = (flat > 0).nonzero()[:, 0]
    background = Neighbors(torch.zeros_like(of_objects), of_objects)
    if not len(of_objects):
        return background
    boxes = label_boxes(label_map, num_objects)
    labels = boxes[:, 2].nonzero()[:, 0] + 1
    left, top, right, bottom = boxes[labels - 1].unbind(1)
    left, top = left - distance, top - distance
    grid = RaggedGrid(bottom + distance - top, right + distance - left, label_map.device)
    roi, row, column = grid.pixels
    y, x = row + top[roi], column + left[roi]
    pixel = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    in_image = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    label = labels[roi]
    value = flat[pixel]
    is_own = in_image & (value == label)

    strip = torch.ones(int(grid.heights.max()), int(grid.widths.sum()), dtype=torch.uint8)
    strip_column = column + (grid.widths.cumsum(0) - grid.widths)[roi]
    strip[row, strip_column] = 1 - is_own.byte()
    distances = torch.from_numpy(cv2.distanceTransform(strip.numpy(), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    # Roots of whole numbers are far from one another compared with the rounding of float32.
    is_near = distances[row, strip_column] <= distance + 1e-3
    chosen = is_near & in_image & (value != label) & (value != IGNORED)
    return Neighbors(torch.cat([label[chosen], background.label]), torch.cat([pixel[chosen], background.pixel]))
