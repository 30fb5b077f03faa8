"""The score of an instance."""

from functools import partial

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from objguided_d2.modeling.roi_heads import ObjectGuidedROIHeads
from tests.modeling.models import disk_batch, small_cfg


def scored(power, seed=3):
    cfg = small_cfg()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_MASK_HEAD.SCORE_SOFT_IOU_POWER = power
    torch.manual_seed(seed)
    model = build_model(cfg).eval()
    # Masks that differ in certainty: those of fresh weights are 1/2 everywhere.
    torch.nn.init.normal_(model.roi_heads.mask_head.seg_head.predictor.weight, std=0.5)
    batch = [{key: x[key] for key in ("image", "height", "width")} for x in disk_batch([(64, 96)], [3])]
    with torch.no_grad():
        (instances,) = model.inference(batch, do_postprocess=False)
        images = model.preprocess_image(batch)
        detections, _ = model.roi_heads(images, (features := model.backbone(images.tensor)), proposals(model, features))
    assert instances.scores.tolist() == detections[0].scores.tolist()
    return detections[0]


def proposals(model, features):
    generator = model.proposal_generator
    feature = features[generator.in_feature]
    return generator.propose(generator.head(feature), partial(generator.head.wh_and_offset, feature), [(64, 96)])


def test_the_score_is_the_geometric_mean_of_the_centers_and_a_power_of_the_soft_iou():
    plain, linear, fourth = scored(0.0), scored(1.0), scored(4.0)
    soft_iou = plain.pred_masks.soft_iou(0.53)
    assert len(plain) > 5 and soft_iou.max() - soft_iou.min() > 0.01
    torch.testing.assert_close(linear.scores, (plain.scores * soft_iou) ** 0.5)
    torch.testing.assert_close(fourth.scores, (plain.scores * soft_iou**4) ** 0.5)


def test_proposals_outside_the_image_take_no_place_among_the_best():
    boxes = [[32.0, 0, 40, 9], [25, 10, 40, 30], [1, 2, 5, 9], [2, 2, 8, 9]]
    selected = ObjectGuidedROIHeads(mask_head=torch.nn.Identity(), num_classes=1, max_detections=2).select(
        Instances((20, 30), proposal_boxes=Boxes(torch.tensor(boxes)), objectness_logits=torch.tensor([3.0, 2, 1, 0]))
    )
    assert selected.pred_boxes.tensor.tolist() == [[25, 10, 30, 20], [1, 2, 5, 9]]
    torch.testing.assert_close(selected.scores, torch.tensor([2.0, 1.0]).sigmoid())


def test_a_negative_power_is_refused():
    cfg = small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.SCORE_SOFT_IOU_POWER = -1.0
    with pytest.raises(ValueError, match=r"SCORE_SOFT_IOU_POWER must be at least 0, not -1\.0"):
        build_model(cfg)
