"""The contours that DCAN learns.

N images of H x W pixels; labels as in ``modeling/label_map.py``.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..label_map import IGNORED


def outlines(label_maps: Tensor) -> Tensor:
    """(N, H, W) bool: the pixels of an object that have a pixel of another label or of background beside, above or
    below them. What is ignored and what lies beyond the image has no outline."""
    outline = torch.zeros_like(label_maps, dtype=torch.bool)
    for axis in (1, 2):
        length = label_maps.shape[axis]
        first, second = label_maps.narrow(axis, 0, length - 1), label_maps.narrow(axis, 1, length - 1)
        differs = (first != second) & (first != IGNORED) & (second != IGNORED)
        outline.narrow(axis, 0, length - 1).logical_or_(differs)
        outline.narrow(axis, 1, length - 1).logical_or_(differs)
    return outline & (label_maps > 0)


def dilate(region: Tensor, radius: int) -> Tensor:
    """(N, H, W) bool -> the pixels at most ``radius`` from one of the region, center to center."""
    offset = torch.arange(-radius, radius + 1, device=region.device)
    disc = offset[:, None] ** 2 + offset**2 <= radius**2
    counts = F.conv2d(region[:, None].float(), disc[None, None].float(), padding=radius)
    # Counts of pixels are whole numbers, up to the rounding of a fast convolution.
    return counts[:, 0] > 0.5
