import numpy as np
import pytest

from objguided_d2.inference.predictor import Predictor
from objguided_d2.inference.score_bounds import centers_that_count
from tests.inference.models import busy_cfg, busy_model, textured_image


@pytest.mark.parametrize("power", [0.0, 2.0])
def test_fewer_masks_give_the_same_instances(power):
    cfg = busy_cfg()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.01
    cfg.MODEL.ROI_MASK_HEAD.SCORE_SOFT_IOU_POWER = power
    model = busy_model(cfg)
    counts = []
    model.roi_heads.mask_head.register_forward_pre_hook(lambda module, args: counts.append(sum(map(len, args[1]))))
    image = textured_image(96, 128)
    everything = Predictor(cfg, model, score_threshold=0.0)(image)
    some = Predictor(cfg, model, score_threshold=0.4)(image)
    expected = np.flatnonzero(everything.objects.scores >= 0.4)
    assert 0 < len(expected) < len(everything) and len(some) == len(expected)
    np.testing.assert_allclose(some.objects.scores, everything.objects.scores[expected], rtol=1e-5)
    np.testing.assert_array_equal(some.objects.boxes, everything.objects.boxes[expected])
    for mask, i in zip(some.objects.masks, expected):
        np.testing.assert_array_equal(mask, everything.objects.masks[i])
    assert counts[1] < counts[0]
    assert model.proposal_generator.score_thresh == 0.01


def test_a_higher_threshold_of_the_model_stays():
    model = busy_model(busy_cfg())
    with centers_that_count(model, 0.01):
        assert model.proposal_generator.score_thresh == 0.2


@pytest.mark.parametrize("power, least", [(0.0, 0.4), (2.0, 0.16)])
def test_centers_that_are_just_enough_are_kept(power, least):
    model = busy_model(busy_cfg())
    model.roi_heads.score_soft_iou_power = power
    model.proposal_generator.score_thresh = 0.01
    with centers_that_count(model, 0.4):
        assert (1 - 1e-4) * least < model.proposal_generator.score_thresh < least


def test_the_least_center_is_one_whose_mask_is_certain():
    model = busy_model(busy_cfg())
    assert model.roi_heads.least_center_score(0.3) == 0.3
    model.roi_heads.score_soft_iou_power = 6.0
    assert model.roi_heads.least_center_score(0.3) == pytest.approx(0.09)


def test_other_models_stay_as_they_are():
    with centers_that_count(object(), 0.5):
        pass
