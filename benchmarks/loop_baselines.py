"""Reference implementations as baselines: loops over ROIs that take what the package's own functions take.

Glossary: R ROIs of one image, (h, w) size of an ROI.
"""

import torch
from detectron2.structures import Instances
from torch import Tensor

from benchmarks.reference.mask_head_loop import mask_head_loop, mask_head_loop_losses
from benchmarks.reference.plain_model import loop_state
from benchmarks.reference.postprocess_loop import postprocess_loop
from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.structures.ragged_masks import RaggedROIMasks
from objguided_d2.structures.roi_atlas import RoiAtlas, expand_boxes


def loop_masks(head: ObjectGuidedMaskHead, maps: list[Tensor], boxes: Tensor) -> list[Tensor]:
    """Probabilities (h, w) of boxes (R, 4), XYXY in input pixels, not enlarged."""
    logits, _, _ = mask_head_loop(maps, boxes, loop_state(head), head.box_expansion)
    return [values.sigmoid() for values in logits]


def loop_losses(head: ObjectGuidedMaskHead, maps: list[Tensor], targets: Instances, seed: int) -> tuple[Tensor, Tensor]:
    """Mask loss and refinement loss, weighted as the head's, with points drawn from the same seed."""
    boxes = targets.gt_boxes.tensor.to(maps[0].dtype)
    expanded = expand_boxes(boxes, head.box_expansion)
    atlas = RoiAtlas(expanded, torch.zeros(len(boxes), dtype=torch.int64), head.strides)
    # The mask head draws the points of all ROIs at once, in the order of its atlas.
    base = atlas.grids[0].heights * atlas.grids[0].widths / head.refinement.d
    drawn, kept = (base * head.refinement.k).long(), (base * head.refinement.beta).long()
    torch.manual_seed(seed)
    points = torch.rand(int(drawn.sum()), 2, dtype=maps[0].dtype).split(drawn.tolist())
    mask_loss, refine_loss = mask_head_loop_losses(
        maps,
        boxes[atlas.host_order],
        targets.gt_masks.tensor[atlas.host_order].to(maps[0].dtype),
        loop_state(head),
        points,
        kept.tolist(),
        head.box_expansion,
    )
    return head.mask_loss_weights["loss_mask"] * mask_loss, head.refinement.loss_weight * refine_loss


def loop_postprocess(masks: RaggedROIMasks, scores: Tensor, threshold: float, nms: float) -> list[dict]:
    """RLEs of the instances kept, best first, by a loop over masks as large as the image."""
    probabilities = masks.grid.split(masks.probabilities)
    return postprocess_loop(probabilities, masks.boxes, scores, masks.image_size, threshold, nms)[2]
