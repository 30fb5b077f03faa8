"""Masks from the encoder's maps: the method's ladder without norms and without the detector's guidance."""

from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY
from torch import Tensor

from ..mask_head import ObjectGuidedMaskHead


@ROI_MASK_HEAD_REGISTRY.register()
class KeypointGraphMaskHead(ObjectGuidedMaskHead):
    """``ObjectGuidedMaskHead`` on maps that know of no objects, without norms and refinement, on whole pixels.

    Args:
        See ``ObjectGuidedMaskHead``.
    """

    @configurable
    def __init__(self, **kwargs):
        super().__init__(**kwargs, norm=False)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]) -> dict:
        """
        Raises:
            ValueError: if the auxiliary refinement is on, which the baseline does not have.
        """
        if cfg.MODEL.ROI_MASK_HEAD.REFINE.ENABLED:
            raise ValueError("KeypointGraphMaskHead has no refinement: set MODEL.ROI_MASK_HEAD.REFINE.ENABLED to False")
        return super().from_config(cfg, input_shape)

    def rois(self, boxes: Tensor) -> Tensor:
        """The enlarged boxes rounded to whole pixels."""
        return super().rois(boxes).round()
