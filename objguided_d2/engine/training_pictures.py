"""Pictures of what the model does while it trains, into the event storage (TensorBoard shows them)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.visualizer import Visualizer
from torch import Tensor

from ..structures.roi_atlas import RoiAtlas, expand_boxes

if TYPE_CHECKING:
    from .meta_arch import ObjectGuidedRCNN

MAX_INSTANCES = 20
POINTS_PICTURE_SIDE = 256


@torch.no_grad()
def draw_training_images(model: ObjectGuidedRCNN, inputs: dict, truth: Instances, features: dict[str, Tensor]) -> None:
    """Three pictures of the first image of a batch: truth beside prediction, heatmap beside its target, and the
    refinement's points on a predicted mask."""
    features = {name: feature[:1] for name, feature in features.items()}
    image = convert_image_to_rgb(inputs["image"].permute(1, 2, 0), model.input_format)
    storage = get_event_storage()

    generator = model.proposal_generator
    feature = features[generator.in_feature]
    heatmap = generator.head(feature)
    (proposals,) = generator.propose(heatmap, feature, [tuple(inputs["image"].shape[-2:])])
    detections = model.roi_heads.select(proposals)[:MAX_INSTANCES]
    model.roi_heads.forward_with_given_boxes(features, [detections])
    instances = model.postprocessor(detections, *detections.image_size).to("cpu")
    true_masks = truth.gt_masks.to("cpu")
    storage.put_image(
        "left: true boxes and masks; right: predicted",
        _beside(
            Visualizer(image).overlay_instances(boxes=truth.gt_boxes.to("cpu"), masks=true_masks).get_image(),
            Visualizer(image)
            .overlay_instances(boxes=instances.pred_boxes, masks=np.asarray(instances.pred_masks))
            .get_image(),
        ),
    )

    target = generator.targets(heatmap.shape, [truth]).heatmap
    gray = [(m[0].float().amax(0) * 255).byte().cpu().numpy() for m in (target, heatmap.sigmoid())]
    storage.put_image("left: true center heatmap; right: predicted", _beside(*(np.stack([g] * 3, 2) for g in gray)))

    points = _draw_points(model, truth, features)
    if points is not None:
        storage.put_image("refinement points on a predicted mask", points)


def _beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two (H, W, 3) uint8 pictures -> one (3, H, 2 W), the order of the event storage."""
    return np.concatenate([left, right], 1).transpose(2, 0, 1)


def _draw_points(model: ObjectGuidedRCNN, truth: Instances, features: dict[str, Tensor]) -> np.ndarray | None:
    """The mask predicted for the largest true box, with its sampled points in red; None if there is nothing to draw."""
    head = model.roi_heads.mask_head
    if head.refinement is None or not len(truth):
        return None
    largest = truth.gt_boxes.tensor[truth.gt_boxes.area().argmax()][None]
    boxes = expand_boxes(largest, head.box_expansion, head.box_expansion_pixels)
    image = torch.zeros(1, dtype=torch.int64, device=boxes.device)
    atlas = RoiAtlas(boxes, image, head.strides, head.min_crop_size, head.grid)
    if not len(atlas):
        return None
    logits, _ = head.predict([features[name] for name in head.in_features], atlas)
    probabilities = logits[:, 0].float().sigmoid()
    _, point_coords, _ = head.refinement.sample(atlas, probabilities)

    mask = atlas.grids[0].split(probabilities)[0][None, None]
    side = POINTS_PICTURE_SIDE
    picture = torch.nn.functional.interpolate(mask, size=(side, side), mode="bilinear", align_corners=False)[0, 0]
    picture = (picture * 255).byte().cpu()[None].repeat(3, 1, 1)
    x, y = (point_coords.cpu() * side).long().clamp(max=side - 1).unbind(1)
    picture[:, y, x] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None]
    return picture.numpy()
