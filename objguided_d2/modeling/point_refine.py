"""Auxiliary feature refinement, in training only: uncertain points of the mask get losses of their own (II-C).

Glossary: A ROIs, P their stride-1 pixels, Q cells of a canvas, K points. An ROI of H x W pixels has N = H W / D.
"""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.config import configurable
from torch import Tensor, nn

from ..structures.ragged_ops import at_least_float32, segment_mean
from ..structures.roi_atlas import RoiAtlas
from .mask_targets import MaskTargets


def most_uncertain(uncertainty: Tensor, roi: Tensor, keep: Tensor) -> Tensor:
    """The ``keep[r]`` most uncertain candidates of every ROI.

    Args:
        uncertainty: (K,) in [-1, 0], 0 the most uncertain.
        roi: (K,) int64 in rising order.
        keep: (A,) int64 on the CPU, at most the number of candidates of each ROI.

    Returns:
        (sum of keep,) int64 indices into the candidates, by ROI, most uncertain first.
    """
    by_value = uncertainty.argsort(descending=True, stable=True)
    # The candidates of each ROI are a run again, as in `roi`.
    order = by_value[roi[by_value].argsort(stable=True)]
    begin = torch.searchsorted(roi, torch.arange(len(keep), device=roi.device))
    total, keep = int(keep.sum()), keep.to(roi.device, non_blocking=True)
    kept_roi = torch.arange(len(keep), device=roi.device).repeat_interleave(keep, output_size=total)
    skipped = begin - (keep.cumsum(0) - keep)
    return order[torch.arange(total, device=roi.device) + skipped.index_select(0, kept_roi)]


REDUCTIONS = ("mean", "sum")


class PointRefinement(nn.Module):
    """RefineHead and its point sampling (Eq. 8-9).

    Args:
        e1_channels, e2_channels: of the two finest ladder maps.
        k, beta, d: k N points are drawn and the beta N most uncertain kept; beta = k is uniform sampling.
        loss_weight: factor of the loss.
        reduction: "mean" = one mean over the terms of both outputs (released); "sum" = the means of both added up.
    """

    @configurable
    def __init__(
        self,
        *,
        e1_channels: int,
        e2_channels: int,
        k: float,
        beta: float,
        d: float,
        loss_weight: float,
        reduction: str = "mean",
    ):
        super().__init__()
        for key, value in (("K", k), ("BETA", beta), ("D", d)):
            if value <= 0:
                raise ValueError(f"MODEL.ROI_MASK_HEAD.REFINE.{key} must be positive, not {value}")
        if beta > k:
            raise ValueError(f"MODEL.ROI_MASK_HEAD.REFINE.BETA = {beta} must not exceed K = {k}: kept of drawn points")
        if reduction not in REDUCTIONS:
            raise ValueError(f"MODEL.ROI_MASK_HEAD.REFINE.REDUCTION must be one of {REDUCTIONS}, not {reduction!r}")
        self.fine = nn.Linear(e1_channels, 1)
        self.fine_and_coarse = nn.Linear(e1_channels + e2_channels, 1)
        for layer in (self.fine, self.fine_and_coarse):
            weight_init.c2_xavier_fill(layer)
        self.k, self.beta, self.d = k, beta, d
        self.loss_weight, self.reduction = loss_weight, reduction

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
            "reduction": refine.REDUCTION,
        }

    @torch.no_grad()
    def sample(self, atlas: RoiAtlas, probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Draw points and keep the uncertain ones (Eq. 8).

        Args:
            probabilities: (P,) predicted masks, ROI after ROI.

        Returns:
            roi (K,) in rising order, point_coords (K, 2) in [0, 1], x first, relative to the ROI's box, and the number
            of points of every ROI (A,) on the host.
        """
        grid = atlas.grids[0]
        base = grid.heights * grid.widths / self.d
        drawn, kept = (base * self.k).long().clamp(min=1), (base * self.beta).long().clamp(min=1)
        roi = torch.arange(len(grid), device="cpu").repeat_interleave(drawn).to(grid.device, non_blocking=True)
        point_coords = torch.rand(len(roi), 2, device=grid.device, dtype=probabilities.dtype)
        if self.beta == self.k:
            return roi, point_coords, drawn
        uncertainty = atlas.canvases[0].from_list(-(2 * probabilities - 1).abs()[:, None])
        uncertainty = atlas.sample(0, uncertainty, roi, point_coords)[:, 0]
        keep = most_uncertain(uncertainty, roi, kept)
        return roi[keep], point_coords[keep], kept

    def loss(
        self, atlas: RoiAtlas, probabilities: Tensor, ladder: list[Tensor], masks: MaskTargets
    ) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy of both RefineHead outputs against soft labels, averaged over the points of each ROI.

        Args:
            probabilities: (P,) predicted masks, detached, ROI after ROI.
            ladder: [e1, e2, ...], (Q, C) each.
            masks: the true masks of the ROIs.

        Returns:
            of e1 (A,), and of e1 and e2 together (A',) for the ROIs that have e2.
        """
        e1, e2 = ladder[0], ladder[1]
        roi, point_coords, counts = self.sample(atlas, probabilities)
        labels = masks.sample(roi, *atlas.image_positions(roi, point_coords))
        fine = atlas.sample(0, e1, roi, point_coords)
        fine_loss = _mean_of_rois(self.fine(fine), labels, roi, counts)
        # ROIs without level 1 come last and have no e2.
        counts = counts[: len(atlas.grids[1])]
        if not len(counts):
            return fine_loss, self.fine_and_coarse(e1.new_zeros(0, self.fine_and_coarse.in_features))[:, 0]
        num_points = int(counts.sum())
        roi, point_coords, labels = roi[:num_points], point_coords[:num_points], labels[:num_points]
        both = torch.cat([fine[:num_points], atlas.sample(1, e2, roi, point_coords)], 1)
        return fine_loss, _mean_of_rois(self.fine_and_coarse(both), labels, roi, counts)

    def mean_loss(self, losses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The weighted loss from what :meth:`loss` gave for some atlases (Eq. 9)."""
        fine, both = (torch.cat(chunks) for chunks in zip(*losses))
        if self.reduction == "mean":
            return self.loss_weight * torch.cat([fine, both]).mean()
        return self.loss_weight * (fine.mean() + (both.mean() if len(both) else both.sum()))


def _mean_of_rois(logits: Tensor, labels: Tensor, roi: Tensor, counts: Tensor) -> Tensor:
    """Binary cross-entropy of (K, 1) logits, averaged over the points of each ROI: (A,)."""
    logits = at_least_float32(logits)[:, 0]
    loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(roi.device, non_blocking=True)
    return segment_mean(loss[:, None], starts, roi)[:, 0]
