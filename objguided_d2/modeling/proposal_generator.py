"""Object centers as proposals: head, targets, losses and decoding (II-A)."""

from collections.abc import Callable
from functools import partial

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..structures.roi_atlas import image_of_boxes
from .center_head import CenterHead
from .center_targets import (
    GAUSSIAN_RULES,
    GAUSSIAN_SIGMAS,
    CenterTargets,
    decode,
    encode,
    find_peaks,
    ignored_cells,
    inside_cells,
)
from .losses import center_regression_loss, heatmap_focal_loss
from .valid_values import check_values

REGRESSION_LOSSES = ("smooth_l1", "l1")


@PROPOSAL_GENERATOR_REGISTRY.register()
class CenterKeypointProposals(nn.Module):
    """Proposals at the peaks of a center heatmap.

    Args:
        head: see :class:`CenterHead`.
        in_feature, stride: the map the head sits on and its stride.
        num_classes: K.
        topk, score_thresh: peaks kept per image, over all classes, and the score they must exceed.
        gaussian_min_overlap, gaussian_rule, gaussian_sigma, focal_alpha, focal_beta, reg_loss_type, smooth_l1_beta: of
            targets and losses, see ``config.py``.
        loss_weights: factors of "loss_center_heatmap", "loss_wh" and "loss_offset".

    Attributes:
        takes_ignore_region: :meth:`forward` has that argument, which other proposal generators lack.
    """

    takes_ignore_region = True

    @configurable
    def __init__(
        self,
        *,
        head: nn.Module,
        in_feature: str,
        stride: int,
        num_classes: int,
        topk: int,
        score_thresh: float = 0.0,
        gaussian_min_overlap: float = 0.7,
        gaussian_rule: str = "cornernet",
        gaussian_sigma: str = "diameter_sixth",
        focal_alpha: float = 2.0,
        focal_beta: float = 4.0,
        reg_loss_type: str = "smooth_l1",
        smooth_l1_beta: float = 1.0,
        loss_weights: dict[str, float],
    ):
        super().__init__()
        check_values(
            "MODEL.CENTER_HEAD",
            (
                ("TOPK", topk, topk >= 1),
                ("GAUSSIAN_MIN_OVERLAP", gaussian_min_overlap, 0 < gaussian_min_overlap < 1),
                ("GAUSSIAN_RULE", gaussian_rule, gaussian_rule in GAUSSIAN_RULES),
                ("GAUSSIAN_SIGMA", gaussian_sigma, gaussian_sigma in GAUSSIAN_SIGMAS),
                ("REG_LOSS_TYPE", reg_loss_type, reg_loss_type in REGRESSION_LOSSES),
                ("SMOOTH_L1_BETA", smooth_l1_beta, smooth_l1_beta > 0),
            ),
        )
        if not 0 <= score_thresh < 1:
            raise ValueError(f"MODEL.ROI_HEADS.SCORE_THRESH_TEST must lie in [0, 1), not {score_thresh}")
        self.head = head
        self.in_feature, self.stride, self.num_classes = in_feature, stride, num_classes
        self.topk, self.score_thresh = topk, score_thresh
        self.gaussian = {"min_overlap": gaussian_min_overlap, "rule": gaussian_rule, "sigma_rule": gaussian_sigma}
        self.focal_alpha, self.focal_beta = focal_alpha, focal_beta
        self.reg_loss_type, self.smooth_l1_beta = reg_loss_type, smooth_l1_beta
        self.loss_weights = loss_weights

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.CENTER_HEAD
        if head.IN_FEATURE not in input_shape:
            raise ValueError(f"MODEL.CENTER_HEAD.IN_FEATURE = {head.IN_FEATURE!r} is not one of {list(input_shape)}")
        shape = input_shape[head.IN_FEATURE]
        return {
            "head": CenterHead(cfg, in_channels=shape.channels),
            "in_feature": head.IN_FEATURE,
            "stride": shape.stride,
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "topk": head.TOPK,
            "score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "gaussian_min_overlap": head.GAUSSIAN_MIN_OVERLAP,
            "gaussian_rule": head.GAUSSIAN_RULE,
            "gaussian_sigma": head.GAUSSIAN_SIGMA,
            "focal_alpha": head.FOCAL_ALPHA,
            "focal_beta": head.FOCAL_BETA,
            "reg_loss_type": head.REG_LOSS_TYPE,
            "smooth_l1_beta": head.SMOOTH_L1_BETA,
            "loss_weights": {
                "loss_center_heatmap": head.HEATMAP_LOSS_WEIGHT,
                "loss_wh": head.WH_LOSS_WEIGHT,
                "loss_offset": head.OFFSET_LOSS_WEIGHT,
            },
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        gt_instances: list[Instances] | None = None,
        ignore_region: Tensor | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals at test time, losses in training.

        Args:
            features: holds ``in_feature``, (N, C, H, W).
            gt_instances: one per image with ``gt_boxes`` (XYXY, input pixels) and ``gt_classes``; needed in training.
            ignore_region: (N, H n, W n) bool in input pixels, used in training: the heatmap's loss takes nothing there
                for background, see :func:`center_targets.ignored_cells`. None = nowhere.

        Returns:
            At test time one ``Instances`` per image with ``proposal_boxes``, ``objectness_logits`` and
            ``proposal_classes``, best first, and no losses. In training no proposals (masks learn from true boxes,
            II-B) and the loss dict.
        """
        feature = features[self.in_feature]
        heatmap = self.head(feature)
        if not self.training:
            return self.propose(heatmap, partial(self.head.wh_and_offset, feature), images.image_sizes), {}
        targets = self.targets(heatmap.shape, gt_instances)
        wh, offset = self.head.wh_and_offset(feature, targets.cell)
        ignored = None if ignore_region is None else ignored_cells(ignore_region, self.stride)
        return [], self.losses(heatmap, wh, offset, targets, ignored)

    def targets(self, heatmap_shape: torch.Size, gt_instances: list[Instances]) -> CenterTargets:
        """Targets of a batch; see :func:`center_targets.encode`.

        Raises:
            ValueError: an object whose class is not one of ``num_classes``.
        """
        boxes = Boxes.cat([t.gt_boxes for t in gt_instances]).tensor
        image = image_of_boxes([len(t) for t in gt_instances], boxes.device)
        classes = torch.cat([t.gt_classes for t in gt_instances])
        try:
            return encode(boxes, image, classes, tuple(heatmap_shape), self.stride, **self.gaussian)
        except ValueError as error:
            raise ValueError(f"{error}; set MODEL.ROI_HEADS.NUM_CLASSES to the number of categories") from None

    def losses(
        self, heatmap: Tensor, wh: Tensor, offset: Tensor, targets: CenterTargets, ignored: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Weighted losses of the heatmap (N, K, H, W) and of wh and offset (M, 2) at the true centers (Eq. 1-5).

        ``ignored``, (N, H, W) bool, are cells of the heatmap that do not count as background.
        """
        focal = heatmap_focal_loss(heatmap, targets.heatmap, self.focal_alpha, self.focal_beta, ignored)
        losses = {
            "loss_center_heatmap": focal,
            "loss_wh": center_regression_loss(wh, targets.wh, self.reg_loss_type, self.smooth_l1_beta),
            "loss_offset": center_regression_loss(offset, targets.offset, self.reg_loss_type, self.smooth_l1_beta),
        }
        get_event_storage().put_scalar("center_head/num_centers", len(targets.cell), smoothing_hint=False)
        return {name: loss * self.loss_weights[name] for name, loss in losses.items()}

    @torch.no_grad()
    def propose(
        self,
        heatmap: Tensor,
        wh_and_offset: Callable[[Tensor], tuple[Tensor, Tensor]],
        image_sizes: list[tuple[int, int]],
    ) -> list[Instances]:
        """Decode the heatmap's peaks above the score threshold into one ``Instances`` per image (II-A.4).

        Cells in the padding of the batch are no centers. Boxes are not clipped.

        Args:
            heatmap: logits (N, K, H, W).
            wh_and_offset: gives both, (M, 2) each, at flat indices (M,) into N * H * W, as ``CenterHead`` does.
            image_sizes: (height, width) of the images in input pixels.
        """
        inside = inside_cells(image_sizes, *heatmap.shape[-2:], self.stride, heatmap.device)
        heatmap = heatmap.float().masked_fill(~inside[:, None], -torch.inf)
        logits, classes, cell = find_peaks(heatmap, self.topk)
        kept = logits.sigmoid() > self.score_thresh
        counts = kept.sum(1).tolist()
        image = torch.arange(len(image_sizes), device=cell.device)[:, None].expand_as(cell)[kept]
        logits, classes, cell = logits[kept], classes[kept], cell[kept]
        height, width = heatmap.shape[-2:]
        wh, offset = wh_and_offset(image * (height * width) + cell)
        boxes = decode(cell, wh.float(), offset.float(), width, self.stride)
        return [
            Instances(size, proposal_boxes=Boxes(b), objectness_logits=s, proposal_classes=c)
            for size, b, s, c in zip(image_sizes, boxes.split(counts), logits.split(counts), classes.split(counts))
        ]
