import pytest
import torch
from detectron2.structures import Boxes

from objguided_d2 import get_cfg
from objguided_d2.profiling.given_boxes import random_boxes
from objguided_d2.profiling.inputs import RandomImage
from objguided_d2.profiling.model_under_test import load_model_under_test
from tests.modeling.models import disk_batch, small_cfg

BASELINE = "configs/synthetic/demo_mask_rcnn_R_18_FPN.yaml"


def baseline_cfg():
    cfg = get_cfg(BASELINE)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    return cfg


@pytest.mark.parametrize("make_cfg", [small_cfg, baseline_cfg])
def test_mask_stages_get_the_given_boxes(make_cfg):
    model = load_model_under_test(make_cfg(), "model")
    images = RandomImage(64)(model.cfg)
    given = [random_boxes(5, 20, 64)]
    seen = []
    stage = model.model.roi_heads
    original = stage.forward_with_given_boxes
    stage.forward_with_given_boxes = lambda f, i: (
        seen.append([x.pred_boxes.tensor.clone() for x in i]) or original(f, i)
    )
    (result,) = model.inference(images, given)()
    torch.testing.assert_close(seen[0], given)
    assert len(result[0]["instances"]) <= 5


def test_inference_without_given_boxes_is_that_of_the_model():
    model = load_model_under_test(small_cfg(), "model")
    images = RandomImage(64)(model.cfg)
    ours, theirs = model.inference(images)()[0][0]["instances"], model.model(images)[0]["instances"]
    assert torch.equal(ours.pred_boxes.tensor, theirs.pred_boxes.tensor)


def test_training_steps_change_the_weights():
    model = load_model_under_test(small_cfg(), "model")
    before = [p.detach().clone() for p in model.model.parameters()]
    model.training_steps([disk_batch([(64, 64)], [3])])()
    assert any(not torch.equal(a, b) for a, b in zip(before, model.model.parameters()))


def test_random_boxes_lie_inside_and_have_about_the_side_asked_for():
    boxes = random_boxes(200, 30, 128)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0 and boxes.max() <= 128
    assert sides.min() >= 0.75 * 30 and sides.max() <= 1.25 * 30 and 28 < sides.mean() < 32
    assert len(Boxes(boxes)) == 200 and torch.equal(boxes, random_boxes(200, 30, 128))
