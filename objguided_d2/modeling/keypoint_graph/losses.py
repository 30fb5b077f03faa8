"""Losses of the maps of one scale: pure functions of predictions and targets."""

import torch.nn.functional as F
from torch import Tensor


def keypoint_loss(logits: Tensor, target: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of the keypoint maps, averaged over their cells.

    Args:
        logits, target: (N, K, 5, H, W).
        ignored: (N, H, W) bool, cells that do not count as background; those of discs count.
    """
    if ignored is None:
        return F.binary_cross_entropy_with_logits(logits, target)
    counts = (~ignored[:, None, None] | (target > 0)).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, weight=counts, reduction="sum")
    return loss / counts.sum().clamp(min=1)


def offset_loss(predicted: Tensor, target: Tensor, radius: float) -> Tensor:
    """L1 distance in units of the discs' radius, averaged over the cells of discs, their vectors and both axes.

    Args:
        predicted, target: (D, ..., 2) in cells.

    Returns:
        Scalar; zero, with its graph, when D is 0.
    """
    if not len(target):
        return predicted.sum() * 0
    return F.l1_loss(predicted, target) / radius
