"""Which proposals get a mask, and in training the mask losses on true boxes (II-B)."""

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, build_mask_head
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ..structures.ragged_masks import RaggedROIMasks
from ..structures.roi_atlas import clip_boxes


@ROI_HEADS_REGISTRY.register()
class ObjectGuidedROIHeads(nn.Module):
    """Detections are the proposals themselves; the only head is the mask head.

    Args:
        mask_head: see :class:`ObjectGuidedMaskHead`.
        num_classes: K; with one, proposals need not have classes.
        max_detections: best proposals kept per image.
        mask_thresh, score_soft_iou_power: see ``config.py``.

    Attributes:
        mask_on: False leaves masks out at test time, as of Detectron2's heads.
    """

    mask_on = True

    @configurable
    def __init__(
        self,
        *,
        mask_head: nn.Module,
        num_classes: int,
        max_detections: int,
        mask_thresh: float = 0.5,
        score_soft_iou_power: float = 0.0,
    ):
        super().__init__()
        if score_soft_iou_power < 0:
            raise ValueError(f"MODEL.ROI_MASK_HEAD.SCORE_SOFT_IOU_POWER must be at least 0, not {score_soft_iou_power}")
        if max_detections < 1:
            raise ValueError(f"TEST.DETECTIONS_PER_IMAGE must be at least 1, not {max_detections}")
        self.mask_head = mask_head
        self.num_classes = num_classes
        self.max_detections = max_detections
        self.mask_thresh, self.score_soft_iou_power = mask_thresh, score_soft_iou_power

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        return {
            "mask_head": build_mask_head(cfg, input_shape),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "mask_thresh": cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH,
            "score_soft_iou_power": cfg.MODEL.ROI_MASK_HEAD.SCORE_SOFT_IOU_POWER,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """In training the losses and no instances; else detections with masks and no losses.

        The scores of detections with masks follow ``score_soft_iou_power``; given boxes keep theirs.
        """
        if self.training:
            return [], self.mask_head.losses(self._mask_features(features), targets)
        detections = [self.select(p) for p in proposals]
        if not self.mask_on:
            return detections, {}
        return self.rescore(self.forward_with_given_boxes(features, detections)), {}

    def select(self, proposals: Instances) -> Instances:
        """Proposals of one image (best first) -> detections with ``pred_boxes``, ``scores`` and ``pred_classes``.

        Boxes are clipped to the image; those that are then empty, and those that were not finite, are dropped.

        Raises:
            ValueError: proposals without ``proposal_classes``, which those of an RPN are, for more than one class.
        """
        proposals.proposal_boxes = Boxes(clip_boxes(proposals.proposal_boxes.tensor, proposals.image_size))
        proposals = proposals[proposals.proposal_boxes.nonempty()][: self.max_detections]
        if not proposals.has("proposal_classes"):
            if self.num_classes > 1:
                raise ValueError(
                    f"ObjectGuidedROIHeads takes the class of an object from its proposal, and these have none: with "
                    f"{self.num_classes} classes set MODEL.PROPOSAL_GENERATOR.NAME to CenterKeypointProposals"
                )
            proposals.proposal_classes = torch.zeros_like(proposals.objectness_logits, dtype=torch.int64)
        return Instances(
            proposals.image_size,
            pred_boxes=proposals.proposal_boxes,
            scores=proposals.objectness_logits.sigmoid(),
            pred_classes=proposals.proposal_classes,
        )

    def forward_with_given_boxes(self, features: dict[str, Tensor], instances: list[Instances]) -> list[Instances]:
        """Add ``pred_masks`` (:class:`RaggedROIMasks`) to instances that have ``pred_boxes`` in input pixels.

        A mask is made from the part of its box that lies in the image.
        """
        masks = self.masks_of_boxes(features, [i.pred_boxes for i in instances], [i.image_size for i in instances])
        for image_instances, image_masks in zip(instances, masks):
            image_instances.pred_masks = image_masks
        return instances

    def masks_of_boxes(
        self, features: dict[str, Tensor], boxes: list[Boxes], image_sizes: list[tuple[int, int]]
    ) -> list[RaggedROIMasks]:
        """See :meth:`ObjectGuidedMaskHead.forward`; the features are those of the backbone."""
        return self.mask_head(self._mask_features(features), boxes, image_sizes)

    def rescore(self, detections: list[Instances]) -> list[Instances]:
        """Make ``scores`` the geometric mean of themselves and of the masks' soft IoU to ``score_soft_iou_power``.

        The order is that of the product; the root keeps a threshold near what it is for scores of centers.
        """
        if self.score_soft_iou_power > 0:
            for instances in detections:
                soft_iou = instances.pred_masks.soft_iou(self.mask_thresh)
                instances.scores = (instances.scores * soft_iou**self.score_soft_iou_power).sqrt()
        return detections

    def least_center_score(self, score: float) -> float:
        """Of the center of an instance that has this score after :meth:`rescore`: a soft IoU is 1 at most."""
        return score**2 if self.score_soft_iou_power > 0 else score

    def _mask_features(self, features: dict[str, Tensor]) -> list[Tensor]:
        return [features[name] for name in self.mask_head.in_features]
