"""Auxiliary feature refinement, in training only: uncertain points of the mask get losses of their own (II-C).

Glossary: A ROIs, P their stride-1 pixels, Q points. An ROI of H x W pixels has N = H W / D.
"""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..structures.ragged_ops import segment_mean
from ..structures.roi_atlas import RoiAtlas
from .mask_targets import MaskTargets


def most_uncertain(uncertainty: Tensor, roi: Tensor, keep: Tensor) -> Tensor:
    """The ``keep[r]`` most uncertain candidates of every ROI.

    Args:
        uncertainty: (Q,) in [-1, 0], 0 the most uncertain.
        roi: (Q,) int64 in rising order.
        keep: (A,) int64, at most the number of candidates of each ROI.

    Returns:
        (sum of keep,) int64 indices into the candidates, by ROI, most uncertain first.
    """
    by_value = uncertainty.argsort(descending=True, stable=True)
    order = by_value[roi[by_value].argsort(stable=True)]
    # `order` lists the candidates of each ROI in a run again, so `roi` says whose each place is.
    first = torch.searchsorted(roi, torch.arange(len(keep), device=roi.device))
    rank = torch.arange(len(roi), device=roi.device) - first.index_select(0, roi)
    return order[rank < keep.index_select(0, roi)]


class PointRefinement(nn.Module):
    """RefineHead and its point sampling (Eq. 8-9).

    Args:
        e1_channels, e2_channels: of the two finest ladder maps.
        k, beta, d: k N points are drawn and the beta N most uncertain kept; beta = k is uniform sampling.
        loss_weight: factor of the loss.
    """

    @configurable
    def __init__(self, *, e1_channels: int, e2_channels: int, k: float, beta: float, d: float, loss_weight: float):
        super().__init__()
        for key, value in (("K", k), ("BETA", beta), ("D", d)):
            if value <= 0:
                raise ValueError(f"MODEL.ROI_MASK_HEAD.REFINE.{key} must be positive, not {value}")
        if beta > k:
            raise ValueError(f"MODEL.ROI_MASK_HEAD.REFINE.BETA = {beta} must not exceed K = {k}: kept of drawn points")
        self.fine = nn.Linear(e1_channels, 1)
        self.fine_and_coarse = nn.Linear(e1_channels + e2_channels, 1)
        for layer in (self.fine, self.fine_and_coarse):
            weight_init.c2_xavier_fill(layer)
        self.k, self.beta, self.d, self.loss_weight = k, beta, d, loss_weight

    @classmethod
    def from_config(cls, cfg, e1_channels: int, e2_channels: int) -> dict:
        refine = cfg.MODEL.ROI_MASK_HEAD.REFINE
        return {
            "e1_channels": e1_channels,
            "e2_channels": e2_channels,
            "k": refine.K,
            "beta": refine.BETA,
            "d": refine.D,
            "loss_weight": refine.LOSS_WEIGHT,
        }

    @torch.no_grad()
    def sample(self, atlas: RoiAtlas, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw points and keep the uncertain ones (Eq. 8).

        Args:
            probabilities: (P,) predicted masks.

        Returns:
            roi (Q,) in rising order, point_coords (Q, 2) in [0, 1], x first, relative to the ROI's box, and the number
            of points of every ROI (A,) on the host.
        """
        grid = atlas.grids[0]
        base = grid.heights * grid.widths / self.d
        drawn, kept = (base * self.k).long().clamp(min=1), (base * self.beta).long().clamp(min=1)
        roi = torch.arange(len(grid)).repeat_interleave(drawn).to(grid.device, non_blocking=True)
        point_coords = torch.rand(len(roi), 2, device=grid.device)
        if self.beta == self.k:
            return roi, point_coords, drawn
        uncertainty = atlas.read(0, -(2 * probabilities - 1).abs()[:, None], roi, point_coords)[:, 0]
        keep = most_uncertain(uncertainty, roi, kept.to(grid.device, non_blocking=True))
        return roi[keep], point_coords[keep], kept

    def loss(self, atlas: RoiAtlas, probabilities: Tensor, ladder: list[Tensor], masks: MaskTargets) -> Tensor:
        """Binary cross-entropy of both RefineHead outputs against soft labels, averaged over the points of an ROI, then
        over ROIs, and added up (Eq. 9).

        Args:
            probabilities: (P,) predicted masks, detached.
            ladder: [e1 (P, C), e2 (P of level 1, C), ...].
            masks: the true masks of the ROIs.
        """
        e1, e2 = ladder[0], ladder[1]
        roi, point_coords, counts = self.sample(atlas, probabilities)
        labels = masks.read(roi, *atlas.image_positions(roi, point_coords))
        fine = atlas.read(0, e1, roi, point_coords)
        loss = _mean_over_rois(self.fine(fine), labels, roi, counts)
        # ROIs without level 1 come last and have no e2.
        counts = counts[: len(atlas.grids[1])]
        num_points = int(counts.sum())
        roi, point_coords, labels = roi[:num_points], point_coords[:num_points], labels[:num_points]
        both = torch.cat([fine[:num_points], atlas.read(1, e2, roi, point_coords)], 1)
        return self.loss_weight * (loss + _mean_over_rois(self.fine_and_coarse(both), labels, roi, counts))


def _mean_over_rois(logits: Tensor, labels: Tensor, roi: Tensor, counts: Tensor) -> Tensor:
    """Binary cross-entropy of (Q, 1) logits, averaged over the points of each ROI, then over ROIs."""
    if not len(counts):
        return logits.sum() * 0
    loss = F.binary_cross_entropy_with_logits(logits.float()[:, 0], labels, reduction="none")
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(roi.device, non_blocking=True)
    return segment_mean(loss[:, None], starts, roi).mean()
