"""The plain programs that the benchmark measures this package against, in the form it asks for."""

import torch

from benchmarks.reference.mask_head_loop import mask_head_loop, mask_head_loop_losses
from benchmarks.reference.plain_model import loop_state, plain_inference
from benchmarks.reference.postprocess_loop import postprocess_loop
from objguided_d2.modeling.mask_head import ObjectGuidedMaskHead
from objguided_d2.structures.ragged_masks import RaggedROIMasks
from objguided_d2.structures.roi_atlas import RoiAtlas, expand_boxes


class LoopOpponents:
    """See ``benchmarks.rows.Opponents``."""

    def masks(self, head: ObjectGuidedMaskHead, maps: list[torch.Tensor], boxes: torch.Tensor) -> list[torch.Tensor]:
        logits, _, _ = mask_head_loop(maps, boxes, loop_state(head), head.box_expansion)
        return [values.sigmoid() for values in logits]

    def losses(
        self, head: ObjectGuidedMaskHead, maps: list[torch.Tensor], targets, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        boxes = targets.gt_boxes.tensor.to(maps[0].dtype)
        expanded = expand_boxes(boxes, head.box_expansion)
        atlas = RoiAtlas(expanded, torch.zeros(len(boxes), dtype=torch.int64), head.strides)
        # Our head draws the points of all ROIs at once, in the order of its atlas.
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
        return head.loss_weight * mask_loss, head.refinement.loss_weight * refine_loss

    def postprocess(self, masks: RaggedROIMasks, scores: torch.Tensor, threshold: float, nms: float) -> list[dict]:
        probabilities = masks.grid.split(masks.probabilities)
        return postprocess_loop(probabilities, masks.boxes, scores, masks.image_size, threshold, nms)[2]

    def inference(self, model: torch.nn.Module, image: dict, boxes: torch.Tensor) -> list[dict]:
        return plain_inference(model, image, boxes)
