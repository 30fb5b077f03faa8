"""Section II-C: auxiliary refinement of one ROI (Eq. 8-9).

Points are (P, 2), (x, y) in [0, 1] over the ROI with corners aligned: 0 is the center of its first pixel, 1 that of
its last. The grids of all levels span the same box edge to edge, so one point means the same position in e1 and in e2.
"""

import torch
import torch.nn.functional as F

from benchmarks.reference.rois import State, submodule


def sample_points(values: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(C, H, W) sampled bilinearly at (P, 2) points -> (C, P)."""
    grid = (2 * points - 1)[None, :, None]
    return F.grid_sample(values[None], grid, align_corners=True)[0, :, :, 0]


def point_uncertainty(probability: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(H, W) mask probability -> (P,): -|2 x - 1| is taken per pixel first, then sampled at the points (Eq. 8)."""
    return sample_points(-(2 * probability - 1).abs()[None], points)[0]


def most_uncertain(uncertainty: torch.Tensor, count: int) -> torch.Tensor:
    """Indices of the ``count`` largest values, largest first."""
    return torch.sort(uncertainty, descending=True, stable=True).indices[:count]


def point_logits(e1: torch.Tensor, e2: torch.Tensor, points: torch.Tensor, state: State) -> tuple:
    """RefineHead: (P,) logits from e1 and (P,) from e1 and e2 together.

    Args:
        e1, e2: (1, C, h, w); state: released names ``point_head0.0`` and ``point_head1.0`` (Conv1d).
    """
    fine = sample_points(e1[0], points)
    both = torch.cat([fine, sample_points(e2[0], points)])
    conv0, conv1 = submodule(state, "point_head0.0"), submodule(state, "point_head1.0")
    return (
        F.conv1d(fine[None], conv0["weight"], conv0["bias"])[0, 0],
        F.conv1d(both[None], conv1["weight"], conv1["bias"])[0, 0],
    )


def soft_labels(true_mask: torch.Tensor, box: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """(P,) labels in [0, 1]: the true mask of the image, (H, W), sampled bilinearly at the points.

    Args:
        box: (4,) XYXY of the ROI, already enlarged; its corners are the points (0, 0) and (1, 1).
    """
    last = torch.tensor([true_mask.shape[1] - 1, true_mask.shape[0] - 1])
    return sample_points(true_mask[None], (box[:2] + points * (box[2:] - box[:2])) / last)[0]


def refine_loss(logits: list[tuple], labels: list[torch.Tensor]) -> torch.Tensor:
    """Eq. 9 over ROIs: cross-entropy averaged over the points of each output of each ROI, then over all of these.

    Args:
        logits: per ROI the pair of :func:`point_logits`.
        labels: per ROI (P,).
    """
    losses = [
        F.binary_cross_entropy_with_logits(output, label) for pair, label in zip(logits, labels) for output in pair
    ]
    return torch.stack(losses).mean()
