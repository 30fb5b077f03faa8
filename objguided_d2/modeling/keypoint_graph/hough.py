"""Keypoints of one scale: the cells vote for them, and they are at the peaks of the votes.

See the package for the glossary; T keypoints of one kind at most.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...structures.roi_atlas import bilinear_corners
from ..center_targets import inside_cells
from .decoder import KeypointMaps
from .keypoints import KINDS

# Where the Gaussian is cut, in its standard deviations.
BLUR_TRUNCATE = 4.0


class Keypoints(NamedTuple):
    """The best keypoints of every image, class and kind, best first, T = min(topk, H W).

    Attributes:
        confidence: (N, K, 5, T), in units of a disc of probability one whose cells all vote for the keypoint's cell;
            0 where there are fewer keypoints.
        position: (N, K, 5, T, 2).
        others: (N, K, 5, T, 4, 2), where the keypoint's mid offsets say that the object's others are, see ``OTHERS``.
    """

    confidence: Tensor
    position: Tensor
    others: Tensor


def hough_votes(probability: Tensor, short: Tensor, sizes: list[tuple[int, int]], radius: float) -> Tensor:
    """Every cell votes, with its probability, for the position that its short offset points to.

    A vote is split bilinearly between the four cells around it. One up to half a cell outside the image's cells counts
    for those at the edge, one further away is lost; so are those of cells outside.

    Args:
        probability: (N, K, 5, H, W).
        short: (N, 5, 2, H, W) in cells.
        sizes: (height, width) in cells of the part of the map that each image covers.

    Returns:
        (N, K, 5, H, W), in units of a disc of probability one.
    """
    num_images, num_classes, _, height, width = probability.shape
    device = probability.device
    last = torch.tensor([[w - 1.0, h - 1.0] for h, w in sizes], device="cpu").to(device, non_blocking=True)
    last = last.view(num_images, 2, 1, 1)
    row, column = torch.arange(height, device=device), torch.arange(width, device=device)
    cell = torch.stack([column.expand(height, -1), row[:, None].expand(-1, width)])
    image = torch.arange(num_images, device=device).view(-1, 1, 1).expand(-1, height, width).reshape(-1, 1)
    inside = inside_cells(sizes, height, width, 1, device)
    votes = []
    for kind in range(len(KINDS)):
        vote = cell + short[:, kind].nan_to_num(nan=torch.inf)
        counts = inside & ((vote >= -0.5) & (vote <= last + 0.5)).all(1)
        x, y = torch.minimum(vote.clamp(min=0), last).unbind(1)
        corner_y, corner_x, weight = bilinear_corners(x.flatten(), y.flatten(), width, height)
        index = (image * height + corner_y) * width + corner_x
        weight = weight * counts.reshape(-1, 1)
        weight = probability[:, :, kind].movedim(1, -1).reshape(-1, 1, num_classes) * weight[..., None]
        plane = weight.new_zeros(num_images * height * width, num_classes)
        plane.index_add_(0, index.flatten(), weight.flatten(0, 1))
        votes.append(plane.view(num_images, height, width, num_classes).movedim(-1, 1))
    return torch.stack(votes, 2) / (math.pi * radius**2)


def blur(votes: Tensor, sigma: float) -> Tensor:
    """Convolution with a Gaussian, zeros outside: reflected votes would draw peaks to the edge.

    Args:
        votes: (N, K, 5, H, W).
        sigma: in cells.
    """
    kernel = gaussian_kernel(sigma, votes)
    reach = len(kernel) // 2
    planes = votes.flatten(0, 2)[:, None]
    planes = F.conv2d(planes, kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(planes, kernel.view(1, 1, -1, 1), padding=(reach, 0)).view_as(votes)


def gaussian_kernel(sigma: float, like: Tensor) -> Tensor:
    """(2 n + 1,) of sum 1, on the device and of the type of ``like``."""
    reach = int(BLUR_TRUNCATE * sigma + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=like.device, dtype=like.dtype) / sigma) ** 2)
    return kernel / kernel.sum()


def find_keypoints(
    maps: KeypointMaps,
    sizes: list[tuple[int, int]],
    *,
    radius: float,
    sigma: float,
    threshold: float,
    topk: int,
    subcell: bool,
) -> Keypoints:
    """The keypoints of one scale: cells whose blurred votes are the maximum of their four neighbors'.

    Of neighbors with the same votes the first in reading order is the maximum.

    Args:
        sizes: see :func:`hough_votes`.
        sigma: of the Gaussian, in cells.
        threshold: votes that a keypoint must exceed; of the blurred votes as they are (released: 0.004).
        topk: keypoints kept of one kind.
        subcell: a keypoint is where its cell's short offset points, at most one cell away; otherwise it is the cell.
    """
    num_images, num_classes, num_kinds, height, width = maps.keypoint.shape
    votes = hough_votes(maps.keypoint.sigmoid().nan_to_num(), maps.short, sizes, radius)
    inside = inside_cells(sizes, height, width, 1, votes.device)
    votes = blur(votes, sigma).masked_fill(~inside[:, None, None], -torch.inf)
    padded = F.pad(votes, (1, 1, 1, 1), value=-torch.inf)
    up, down = padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]
    left, right = padded[..., 1:-1, :-2], padded[..., 1:-1, 2:]
    is_peak = (votes > torch.maximum(up, left)) & (votes >= torch.maximum(down, right)) & (votes > threshold)
    confidence, cell = votes.masked_fill(~is_peak, 0).flatten(3).topk(min(topk, height * width), dim=3)

    position = torch.stack([cell % width, cell.div(width, rounding_mode="floor")], -1).to(votes.dtype)

    def at_cells(offsets: Tensor) -> Tensor:
        """(N, 5, ..., H, W) -> (N, K, 5, T, ...)"""
        planes = offsets.reshape(num_images, 1, num_kinds, -1, height * width)
        index = cell[:, :, :, None].expand(-1, -1, -1, planes.shape[3], -1)
        values = planes.expand(-1, num_classes, -1, -1, -1).gather(4, index).movedim(3, 4)
        return values.unflatten(4, offsets.shape[2:-2])

    # Offsets that are not finite point nowhere.
    others = position[..., None, :] + at_cells(maps.mid).nan_to_num(nan=torch.inf)
    if subcell:
        position = position + at_cells(maps.short).nan_to_num().clamp(-1, 1)
    # The votes for a single cell, blurred.
    one_vote = gaussian_kernel(sigma, votes).amax() ** 2
    return Keypoints(confidence / one_vote, position, others)
