"""Object centers as proposals: head, targets, losses and decoding in one room (II-A)."""

import torch
from torch import Tensor, nn

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import get_event_storage

from .center_head import CenterHead
from .center_targets import GAUSSIAN_RULES, GAUSSIAN_SIGMAS, CenterTargets, decode, encode, find_peaks
from .losses import center_regression_loss, heatmap_focal_loss

REGRESSION_LOSSES = ("smooth_l1", "l1")


@PROPOSAL_GENERATOR_REGISTRY.register()
class CenterKeypointProposals(nn.Module):
    """Proposals at the peaks of a center heatmap.

    Args:
        head: a module mapping (N, C, H, W) to heatmap logits, wh and offset, see :class:`CenterHead`.
        in_feature, stride: the map the head sits on and its stride.
        num_classes: K.
        topk: peaks per image, over all classes.
        gaussian_min_overlap, gaussian_rule, gaussian_sigma, focal_alpha, focal_beta, reg_loss_type, smooth_l1_beta: of
            targets and losses, see ``config.py``.
        loss_weights: factors of "loss_center_heatmap", "loss_wh" and "loss_offset".
    """

    @configurable
    def __init__(
        self,
        *,
        head: nn.Module,
        in_feature: str,
        stride: int,
        num_classes: int,
        topk: int,
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
        for key, value, valid in (
            ("TOPK", topk, topk >= 1),
            ("GAUSSIAN_MIN_OVERLAP", gaussian_min_overlap, 0 < gaussian_min_overlap < 1),
            ("GAUSSIAN_RULE", gaussian_rule, gaussian_rule in GAUSSIAN_RULES),
            ("GAUSSIAN_SIGMA", gaussian_sigma, gaussian_sigma in GAUSSIAN_SIGMAS),
            ("REG_LOSS_TYPE", reg_loss_type, reg_loss_type in REGRESSION_LOSSES),
            ("SMOOTH_L1_BETA", smooth_l1_beta, smooth_l1_beta > 0),
        ):
            if not valid:
                raise ValueError(f"MODEL.CENTER_HEAD.{key} = {value!r} is not valid; config.py says what is")
        self.head = head
        self.in_feature, self.stride, self.num_classes, self.topk = in_feature, stride, num_classes, topk
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
        self, images: ImageList, features: dict[str, Tensor], gt_instances: list[Instances] | None = None
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Proposals, best first, and in training the losses.

        Args:
            features: holds ``in_feature``, (N, C, H, W).
            gt_instances: one an image with ``gt_boxes`` (XYXY, input pixels) and ``gt_classes``; needed in training.

        Returns:
            Instances with ``proposal_boxes``, ``objectness_logits`` and ``proposal_classes``, ``topk`` an image at the
            most (cells that are no peak have a logit near the dtype's lowest value); the loss dict, empty at test time.
        """
        heatmap, wh, offset = self.head(features[self.in_feature])
        losses = {}
        if self.training:
            losses = self.losses(heatmap, wh, offset, self.targets(heatmap.shape, gt_instances))
        return self.propose(heatmap.detach(), wh.detach(), offset.detach(), images.image_sizes), losses

    def targets(self, heatmap_shape: torch.Size, gt_instances: list[Instances]) -> CenterTargets:
        """Targets of a batch; see :func:`center_targets.encode`."""
        boxes = Boxes.cat([t.gt_boxes for t in gt_instances]).tensor
        counts = torch.tensor([len(t) for t in gt_instances])
        image = torch.arange(len(gt_instances)).repeat_interleave(counts).to(boxes.device, non_blocking=True)
        classes = torch.cat([t.gt_classes for t in gt_instances])
        return encode(boxes, image, classes, tuple(heatmap_shape), self.stride, **self.gaussian)

    def losses(self, heatmap: Tensor, wh: Tensor, offset: Tensor, targets: CenterTargets) -> dict[str, Tensor]:
        """Weighted losses of the three maps (Eq. 1-5)."""
        losses = {
            "loss_center_heatmap": heatmap_focal_loss(heatmap, targets.heatmap, self.focal_alpha, self.focal_beta)
        }
        for name, dense, target in (("loss_wh", wh, targets.wh), ("loss_offset", offset, targets.offset)):
            at_centers = dense.permute(0, 2, 3, 1).reshape(-1, 2).index_select(0, targets.cell)
            losses[name] = center_regression_loss(at_centers, target, self.reg_loss_type, self.smooth_l1_beta)
        get_event_storage().put_scalar("center_head/num_centers", len(targets.cell), smoothing_hint=False)
        return {name: loss * self.loss_weights[name] for name, loss in losses.items()}

    @torch.no_grad()
    def propose(
        self, heatmap: Tensor, wh: Tensor, offset: Tensor, image_sizes: list[tuple[int, int]]
    ) -> list[Instances]:
        """Decode the maps into one ``Instances`` an image (II-A.4)."""
        logits, classes, cell = find_peaks(heatmap.float(), self.topk)
        index = cell[:, None].expand(-1, 2, -1)
        wh, offset = (dense.float().flatten(2).gather(2, index).transpose(1, 2) for dense in (wh, offset))
        boxes = decode(cell, wh, offset, heatmap.shape[-1], self.stride)
        return [
            Instances(size, proposal_boxes=Boxes(b), objectness_logits=s, proposal_classes=c)
            for size, b, s, c in zip(image_sizes, boxes, logits, classes)
        ]
