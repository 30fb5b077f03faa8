"""From ROI masks to instances at the output size (II-B, end)."""

import torch
from detectron2.structures import Boxes, Instances

from ..structures.mask_nms import mask_nms
from ..structures.ragged_masks import PASTE_MODES, RaggedMasks, RaggedROIMasks
from .valid_values import check_values


class InstancePostprocessor:
    """Paste, threshold, keep the largest pieces, recompute boxes, suppress.

    Args:
        mask_thresh, paste_mode, boxes_from_masks, mask_nms_thresh, largest_piece: see ``config.py``.
        keep_input_masks: give instances their masks at the size of the model's input as well.
    """

    def __init__(
        self,
        mask_thresh: float,
        paste_mode: str,
        boxes_from_masks: bool,
        mask_nms_thresh: float,
        largest_piece: bool = False,
        keep_input_masks: bool = False,
    ):
        check_values(
            "MODEL.ROI_MASK_HEAD",
            (
                ("MASK_THRESH", mask_thresh, 0 < mask_thresh < 1),
                ("PASTE_MODE", paste_mode, paste_mode in PASTE_MODES),
                ("MASK_NMS_THRESH", mask_nms_thresh, 0 <= mask_nms_thresh <= 1),
            ),
        )
        self.mask_thresh, self.paste_mode, self.largest_piece = mask_thresh, paste_mode, largest_piece
        self.boxes_from_masks, self.mask_nms_thresh = boxes_from_masks, mask_nms_thresh
        self.keep_input_masks = keep_input_masks

    def __call__(self, instances: Instances, height: int, width: int) -> Instances:
        """Instances of the model's input, with ``RaggedROIMasks`` -> instances of a height x width image.

        Instances without a mask pixel are dropped; the rest is ordered by score, and ``pred_masks`` is a
        :class:`RaggedMasks`; so is ``input_masks``, those of the input, with ``keep_input_masks``.
        """
        masks = self.paste(instances.pred_masks, (height, width))
        if self.boxes_from_masks:
            boxes = masks.get_bounding_boxes()
        else:
            boxes = Boxes(instances.pred_boxes.tensor.clone())
            boxes.scale(width / instances.image_size[1], height / instances.image_size[0])
            boxes.clip((height, width))
        keep = torch.nonzero((masks.area() > 0) & boxes.nonempty())[:, 0]
        keep = keep[instances.scores[keep].argsort(descending=True, stable=True)]
        if self.mask_nms_thresh < 1 and len(keep):
            keep = mask_nms(masks, keep, self.mask_nms_thresh, instances.pred_classes)
        result = Instances((height, width), **instances.get_fields())
        result.pred_boxes, result.pred_masks = boxes, masks
        if self.keep_input_masks:
            result.input_masks = self.paste(instances.pred_masks, instances.image_size)
        return result[keep]

    def paste(self, roi_masks: RaggedROIMasks, image_size: tuple[int, int]) -> RaggedMasks:
        """Binary masks in an image (H, W) that shows what the model's input does."""
        masks = roi_masks.paste(image_size, self.mask_thresh, self.paste_mode)
        return masks.largest_pieces() if self.largest_piece else masks
