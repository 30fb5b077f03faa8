"""Soft clDice of ROI masks: a loss to which a gap in a thin object matters, however few its pixels.

Shit et al., "clDice - a Novel Topology-Preserving Loss Function for Tubular Structure Segmentation", CVPR 2021: the
skeleton of the prediction should lie in the object, and the skeleton of the object in the prediction. Skeletons are
soft: what a morphological opening takes away, at every depth of erosion. As in the authors' program, an erosion is the
minimum over a pixel and its four neighbors, a dilation the maximum over it and its eight.

Glossary as in ``structures.roi_canvas``: R ROIs, P pixels of all of them, Q cells of the canvas, H x W.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..structures.roi_canvas import RoiCanvas

# What the gutter holds for a minimum and for a maximum of values in [0, 1]: nothing that an ROI's own pixel would lose
# or tie to.
_ABOVE_ALL, _BELOW_ALL = 2.0, -1.0


def soft_cldice_loss(canvas: RoiCanvas, probabilities: Tensor, labels: Tensor, iterations: int) -> Tensor:
    """One minus the soft clDice of every ROI, both of its parts smoothed by one pixel.

    Args:
        canvas: where the pixels of the ROIs are.
        probabilities: (P,). labels: (P,) in [0, 1], without gradient.
        iterations: see :func:`soft_skeleton`.

    Returns:
        (R,) in [0, 1].
    """
    predicted = soft_skeleton(canvas, probabilities, iterations)
    with torch.no_grad():
        true = soft_skeleton(canvas, labels, iterations)
    grid = canvas.grid
    means = grid.mean(torch.stack([predicted * labels, predicted, true * probabilities, true], 1))
    area = (grid.starts[1:] - grid.starts[:-1])[:, None].to(means.dtype)
    predicted_inside, predicted_sum, true_inside, true_sum = (means * area).unbind(1)
    precision = (predicted_inside + 1) / (predicted_sum + 1)
    sensitivity = (true_inside + 1) / (true_sum + 1)
    return 1 - 2 * precision * sensitivity / (precision + sensitivity)


def soft_skeleton(canvas: RoiCanvas, values: Tensor, iterations: int) -> Tensor:
    """Soft skeleton of every ROI; what lies beyond an ROI takes no part.

    Args:
        values: (P,) in [0, 1].
        iterations: erosions, at least the half width of the widest object whose skeleton matters, in pixels of its ROI.

    Returns:
        (P,) in [0, 1].
    """
    plane = canvas.from_list(values[:, None]).view(1, 1, canvas.height, canvas.width)
    gutter = (canvas.roi == len(canvas)).view_as(plane)
    skeleton = torch.zeros_like(plane)
    for _ in range(iterations + 1):
        eroded = _erode(plane, gutter)
        ridge = F.relu(plane - _dilate(eroded, gutter))
        # The union of soft sets.
        skeleton = skeleton + ridge * (1 - skeleton)
        plane = eroded
    return canvas.to_list(skeleton.view(-1, 1))[:, 0]


def _erode(plane: Tensor, gutter: Tensor) -> Tensor:
    negative = -plane.masked_fill(gutter, _ABOVE_ALL)
    vertical = F.max_pool2d(negative, (3, 1), stride=1, padding=(1, 0))
    return -torch.maximum(vertical, F.max_pool2d(negative, (1, 3), stride=1, padding=(0, 1)))


def _dilate(plane: Tensor, gutter: Tensor) -> Tensor:
    return F.max_pool2d(plane.masked_fill(gutter, _BELOW_ALL), 3, stride=1, padding=1)
