"""A box as a graph of five keypoints, and back. The coordinate convention of the detector is stated here alone.

The corner keypoints of a box are the centers of its corner pixels, so that each lies inside the object's image. In
continuous coordinates (a pixel covers [x, x + 1)) a box XYXY has its left corners at x1 + 1/2 and its right ones at
x2 - 1/2. On a map of stride s, coordinate x is index x / s - 1/2.

The graph is complete: 10 edges, each with an offset in both directions.
"""

import numpy as np
import torch
from torch import Tensor

KINDS = ("top left", "top right", "bottom left", "bottom right", "center")
TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT, CENTER = range(len(KINDS))
# The other ends of each kind's four edges, in the order of the mid offsets' channels.
OTHERS = tuple(tuple(other for other in range(len(KINDS)) if other != kind) for kind in range(len(KINDS)))


def to_keypoints(boxes: Tensor) -> Tensor:
    """Boxes (M, 4) XYXY -> (M, 5, 2) in continuous coordinates of the same unit."""
    left, top = boxes[:, 0] + 0.5, boxes[:, 1] + 0.5
    right, bottom = boxes[:, 2] - 0.5, boxes[:, 3] - 0.5
    x = torch.stack([left, right, left, right, (left + right) / 2], 1)
    y = torch.stack([top, top, bottom, bottom, (top + bottom) / 2], 1)
    return torch.stack([x, y], 2)


def to_boxes(keypoints: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The box of each group of keypoints, from what is there.

    A side is where the outermost of its two corners is (released). A side without a corner is mirrored at the center.

    Args:
        keypoints: (G, 5, 2) float in continuous coordinates of input pixels.
        present: (G, 5) bool.

    Returns:
        boxes (G, 4) XYXY, and whether each is one, (G,) bool: there are three keypoints or two opposite corners, and
        its width and height are positive. The others' coordinates mean nothing.
    """
    corners = keypoints[:, :4].reshape(-1, 2, 2, 2)  # group, bottom or not, right or not, x and y
    there = present[:, :4].reshape(-1, 2, 2)
    sides = []
    for axis in (0, 1):
        # The corners of the low side and of the high one.
        values, mask = corners[..., axis], there
        if axis == 0:
            values, mask = values.swapaxes(1, 2), mask.swapaxes(1, 2)
        low, high = np.where(mask, values, np.inf)[:, 0].min(1), np.where(mask, values, -np.inf)[:, 1].max(1)
        mirror = 2 * keypoints[:, CENTER, axis]
        sides.append((np.where(mask[:, 0].any(1), low, mirror - high), np.where(mask[:, 1].any(1), high, mirror - low)))
    (left, right), (top, bottom) = sides
    boxes = np.stack([left - 0.5, top - 0.5, right + 0.5, bottom + 0.5], 1)
    opposite = present[:, [TOP_LEFT, BOTTOM_RIGHT]].all(1) | present[:, [TOP_RIGHT, BOTTOM_LEFT]].all(1)
    is_positive = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes, (opposite | (present.sum(1) >= 3)) & is_positive
