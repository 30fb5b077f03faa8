"""DCAN as a Detectron2 meta-architecture: backbone -> objects and contours -> connected components."""

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from ..label_map import IGNORED, LabeledObjects, label_classes, mean_over_labels
from ..label_map_model import LabelMapModel
from ..valid_values import check_values
from .branch import UpsamplingBranch
from .decode import separate_objects
from .losses import auxiliary_weight, contour_loss, object_loss
from .targets import dilate, outlines


@META_ARCH_REGISTRY.register()
class DCAN(LabelMapModel):
    """Two branches on one backbone, one for objects and one for their contours (Chen et al., MedIA 2017).

    With K classes the object branch tells them apart, contours are of any class, and an object has the class with the
    highest mean probability, which is its score; with one class that is the mean probability of an object. Both are
    ours: the paper has one class and no scores.

    Args:
        object_branch, contour_branch: give logits (N, K + 1 or 1, H, W) for each of ``in_features``.
        in_features: maps of the backbone.
        contour_radius, smoothing_radius, min_area: of targets and decoding, in input pixels.
        contour_weight, aux_decay_period: of the losses, see ``config.py``.
        Others: see :class:`LabelMapModel`.
    """

    @configurable
    def __init__(
        self,
        *,
        object_branch: nn.Module,
        contour_branch: nn.Module,
        in_features: list[str],
        contour_radius: int,
        smoothing_radius: int,
        min_area: int,
        contour_weight: float,
        aux_decay_period: int,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_values(
            "MODEL.DCAN",
            (
                ("CONTOUR_RADIUS", contour_radius, contour_radius >= 0),
                ("SMOOTHING_RADIUS", smoothing_radius, smoothing_radius >= 0),
                ("MIN_AREA", min_area, min_area >= 0),
                ("CONTOUR_WEIGHT", contour_weight, contour_weight > 0),
                ("AUX_DECAY_PERIOD", aux_decay_period, aux_decay_period >= 1),
            ),
        )
        self.object_branch, self.contour_branch, self.in_features = object_branch, contour_branch, in_features
        self.contour_radius, self.smoothing_radius, self.min_area = contour_radius, smoothing_radius, min_area
        self.contour_weight, self.aux_decay_period = contour_weight, aux_decay_period

    @classmethod
    def from_config(cls, cfg) -> dict:
        own = cfg.MODEL.DCAN
        base = super().from_config(cfg)
        available = base["backbone"].output_shape()
        missing = [name for name in own.IN_FEATURES if name not in available]
        if missing or not own.IN_FEATURES:
            raise ValueError(
                f"MODEL.DCAN.IN_FEATURES = {own.IN_FEATURES} must be maps of the backbone, which has {list(available)}"
            )
        shapes = [available[name] for name in own.IN_FEATURES]
        return {
            **base,
            "object_branch": _branch(own, shapes, 1 + base["num_classes"]),
            "contour_branch": _branch(own, shapes, 1),
            "in_features": own.IN_FEATURES,
            "contour_radius": own.CONTOUR_RADIUS,
            "smoothing_radius": own.SMOOTHING_RADIUS,
            "min_area": own.MIN_AREA,
            "contour_weight": own.CONTOUR_WEIGHT,
            "aux_decay_period": own.AUX_DECAY_PERIOD,
        }

    def losses(self, images: Tensor, label_maps: list[Tensor], classes: list[Tensor]) -> dict[str, Tensor]:
        """ "loss_object" and "loss_contour" of the fused maps, and "_aux" with the sum of those of each map."""
        labels = torch.stack(label_maps).to(self.device)
        target = label_classes(labels, [c.to(self.device) for c in classes])
        contours = dilate(outlines(labels), self.contour_radius)
        counted = labels != IGNORED
        object_maps, contour_maps = self._branches(images)
        aux_weight = auxiliary_weight(get_event_storage().iter, self.aux_decay_period)
        return {
            "loss_object": object_loss(sum(object_maps), target),
            "loss_contour": contour_loss(sum(contour_maps), contours, counted, self.contour_weight),
            "loss_object_aux": aux_weight * sum(object_loss(logits, target) for logits in object_maps),
            "loss_contour_aux": aux_weight
            * sum(contour_loss(logits, contours, counted, self.contour_weight) for logits in contour_maps),
        }

    def segment(self, image: Tensor, size: tuple[int, int]) -> LabeledObjects:
        """See :meth:`LabelMapModel.segment`."""
        object_maps, contour_maps = self._branches(image)
        height, width = size
        p_classes = sum(object_maps)[0, :, :height, :width].softmax(0).cpu().numpy()
        p_contour = sum(contour_maps)[0, 0, :height, :width].sigmoid().cpu().numpy()
        label_map = separate_objects(
            1 - p_classes[0],
            p_contour,
            contour_radius=self.contour_radius,
            smoothing_radius=self.smoothing_radius,
            min_area=self.min_area,
        )
        means = mean_over_labels(label_map, p_classes[1:])
        return LabeledObjects(label_map, means.max(1), means.argmax(1))

    def _branches(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        features = self.backbone(images)
        features = [features[name] for name in self.in_features]
        return self.object_branch(features), self.contour_branch(features)


def _branch(cfg, shapes: list[ShapeSpec], out_channels: int) -> UpsamplingBranch:
    return UpsamplingBranch(shapes, cfg.HIDDEN_CHANNELS, out_channels, cfg.NORM)
