"""Losses of the detection head (Eq. 1-5) and of masks (Eq. 7): pure functions of logits and targets."""

import torch
import torch.nn.functional as F
from torch import Tensor


def heatmap_focal_loss(
    logits: Tensor, target: Tensor, alpha: float = 2.0, beta: float = 4.0, ignored: Tensor | None = None
) -> Tensor:
    """Focal loss of the center heatmap, summed over cells and divided by the number of centers (Eq. 1).

    Args:
        logits: (N, K, H, W).
        target: (N, K, H, W) in [0, 1], 1 exactly at centers.
        ignored: (N, H, W) bool, cells that do not count as background in any class; their centers count.

    Returns:
        Scalar float32. Without any center the sum of the negative part alone.
    """
    logits = logits.float()
    # log-sigmoid of both signs: sigmoid and then log would lose everything past |logit| = 17.
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    p = logits.sigmoid()
    is_center = target == 1
    positive = log_p * (1 - p) ** alpha
    negative = log_not_p * p**alpha * (1 - target) ** beta
    if ignored is not None:
        negative = negative.masked_fill(ignored[:, None], 0)
    loss = -torch.where(is_center, positive, negative).sum()
    return loss / is_center.sum().clamp(min=1)


def center_regression_loss(predicted: Tensor, target: Tensor, kind: str, smooth_l1_beta: float = 1.0) -> Tensor:
    """Loss of sizes or offsets at center cells, averaged over the centers and both axes (Eq. 2-3, 5).

    Args:
        predicted, target: (M, 2) in stride-n units.
        kind: "smooth_l1" or "l1".

    Returns:
        Scalar; zero, with its graph, when M is 0.
    """
    if not len(target):
        return predicted.sum() * 0
    if kind == "l1":
        return F.l1_loss(predicted.float(), target)
    return F.smooth_l1_loss(predicted.float(), target, beta=smooth_l1_beta)


def soft_dice_loss(intersection: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """One minus the soft Dice coefficient, smoothed by one pixel, from the three sums over an ROI, each (R,)."""
    return 1 - (2 * intersection + 1) / (predicted + true + 1)
