"""Losses of DCAN's branches; pixels that are ``IGNORED`` are in neither."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..label_map import IGNORED


def object_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the classes and the background, averaged over pixels.

    Args:
        logits: (N, K + 1, H, W), background first.
        target: (N, H, W) int64, see :func:`..label_map.label_classes`.
    """
    loss = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
    return loss / (target != IGNORED).sum().clamp(min=1)


def contour_loss(logits: Tensor, contours: Tensor, counted: Tensor, weight: float) -> Tensor:
    """Binary cross-entropy in which a pixel of a contour counts ``weight`` times; the weighted mean over pixels.

    Args:
        logits: (N, 1, H, W).
        contours, counted: (N, H, W) bool; other pixels than the latter are not averaged.
    """
    weights = torch.where(contours, weight, 1.0) * counted
    loss = F.binary_cross_entropy_with_logits(logits[:, 0], contours.float(), weights, reduction="sum")
    return loss / weights.sum().clamp(min=1)


def auxiliary_weight(iteration: int, period: int) -> float:
    """1, and a tenth of it after every ``period`` iterations."""
    return 0.1 ** (iteration // period)
