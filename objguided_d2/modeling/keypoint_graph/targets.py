"""What the maps of one scale should hold: discs around the keypoints, and in them the offsets.

See the package for the glossary; D cells of discs.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .keypoints import KINDS, OTHERS, to_keypoints


class KeypointTargets(NamedTuple):
    """The targets of one scale.

    Attributes:
        keypoint: (N, K, 5, H, W) float, 1 in the discs of the keypoints of that class and kind, else 0.
        cell: (D,) int64 flat index into N * 5 * H * W: a cell in a disc of that kind, of whatever class.
        short: (D, 2) vector from the cell to the keypoint of its disc, in cells, x first.
        mid: (D, 4, 2) vectors from the cell to the other keypoints of that object, in the order of ``OTHERS``.
    """

    keypoint: Tensor
    cell: Tensor
    short: Tensor
    mid: Tensor


def encode(
    boxes: Tensor, image: Tensor, classes: Tensor, shape: tuple[int, int, int, int], stride: int, radius: float
) -> KeypointTargets:
    """Targets of one scale for all objects of a batch.

    A disc holds the cells whose centers are within ``radius`` of the keypoint. A cell in the discs of several objects
    belongs to the nearest keypoint, of ties to the first object.

    Args:
        boxes: (M, 4) XYXY in input pixels.
        image, classes: (M,) int64.
        shape: (N, K, H, W).
        stride: of the map.
        radius: r.
    """
    num_images, num_classes, height, width = shape
    num_kinds, device = len(KINDS), boxes.device
    keypoints = to_keypoints(boxes.float()) / stride - 0.5
    reach = math.ceil(radius)
    step = torch.arange(-reach, reach + 2, device=device)
    column, row = (keypoints.floor().long()[..., None] + step).unbind(2)
    # (M, 5, rows, columns), as all of the windows around the keypoints.
    distance = ((row - keypoints[..., 1:]) ** 2)[..., None] + ((column - keypoints[..., :1]) ** 2)[..., None, :]
    inside_row, inside_column = (row >= 0) & (row < height), (column >= 0) & (column < width)
    in_disc = (distance <= radius**2) & inside_row[..., None] & inside_column[..., None, :]
    entry = in_disc.flatten().nonzero()[:, 0]
    distance = distance.flatten()[entry]
    window = len(step) ** 2
    owner, kind = entry.div(num_kinds * window, rounding_mode="floor"), entry.div(window, rounding_mode="floor")
    kind = kind % num_kinds
    in_map = (row.clamp(0, height - 1)[..., None] * width + column.clamp(0, width - 1)[..., None, :]).flatten()[entry]

    plane_size = height * width
    keypoint = boxes.new_zeros(num_images * num_classes * num_kinds * plane_size, dtype=torch.float32)
    keypoint[((image[owner] * num_classes + classes[owner]) * num_kinds + kind) * plane_size + in_map] = 1

    cell = (image[owner] * num_kinds + kind) * plane_size + in_map
    nearest = torch.full((num_images * num_kinds * plane_size,), torch.inf, device=device)
    nearest.scatter_reduce_(0, cell, distance, "amin")
    is_nearest = distance == nearest[cell]
    cell, owner, kind, in_map = (values[is_nearest] for values in (cell, owner, kind, in_map))
    first = torch.full_like(nearest, len(boxes), dtype=torch.int64)
    first.scatter_reduce_(0, cell, owner, "amin")
    is_first = owner == first[cell]
    cell, owner, kind, in_map = (values[is_first] for values in (cell, owner, kind, in_map))

    position = torch.stack([in_map % width, in_map.div(width, rounding_mode="floor")], 1)
    others = torch.tensor(OTHERS, device=device)[kind]
    return KeypointTargets(
        keypoint.view(num_images, num_classes, num_kinds, height, width),
        cell,
        keypoints[owner, kind] - position,
        keypoints[owner[:, None], others] - position[:, None],
    )
