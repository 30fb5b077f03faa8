"""Averaging over orientations: on asymmetric maps by hand, and as the symmetry that it gives any model."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from fvcore.nn.precise_bn import get_bn_modules

from objguided_d2.modeling.orientations import ORIENTATIONS, Orientation, detect
from tests.modeling.models import disk_batch, small_cfg

H, W = 3, 5
each_orientation = pytest.mark.parametrize("orientation", ORIENTATIONS)


def test_there_are_eight_and_the_first_leaves_the_image_as_it_is():
    assert ORIENTATIONS[0] == Orientation() and len(set(ORIENTATIONS)) == 8
    maps = {str(orientation.apply(torch.arange(9).view(3, 3)).tolist()) for orientation in ORIENTATIONS}
    assert len(maps) == 8


@each_orientation
def test_maps_come_back_and_cells_follow_them(orientation):
    maps = torch.arange(2 * H * W).view(2, H, W)
    oriented = orientation.apply(maps)
    assert tuple(oriented.shape[1:]) == orientation.apply_size((H, W))
    assert torch.equal(orientation.invert(oriented), maps)
    cell = torch.arange(2 * H * W)
    assert torch.equal(oriented.flatten()[orientation.apply_cells(cell, (H, W))], maps.flatten())


@each_orientation
def test_boxes_and_fractions_follow_the_pixels(orientation):
    """The tight box of a mask, and the center of its first pixel as a fraction of that box."""
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[1:3, 0:4] = True
    x1, y1, x2, y2 = orientation.apply_boxes(torch.tensor([[0.0, 1.0, 4.0, 3.0]]), (H, W))[0].long().tolist()
    oriented = orientation.apply(mask)
    assert oriented.sum() == 8 and oriented[y1:y2, x1:x2].all()
    pixel = torch.zeros(H, W)
    pixel[1, 0] = 1
    ((y, x),) = torch.nonzero(orientation.apply(pixel)).tolist()
    fraction = orientation.apply_fractions(torch.tensor([[0.5 / 4, 0.5 / 2]]))
    expected = torch.tensor([[(x + 0.5 - x1) / (x2 - x1), (y + 0.5 - y1) / (y2 - y1)]])
    torch.testing.assert_close(fraction, expected)


@each_orientation
def test_sizes_and_offsets_come_back(orientation):
    """An object of 6 x 2 at (x, y) = (1.25, 2.75) is in cell (1, 2), with an offset of (0.25, 0.75)."""
    box = torch.tensor([[1.25 - 3, 2.75 - 1, 1.25 + 3, 2.75 + 1]])
    oriented = orientation.apply_boxes(box, (H, W))
    center = (oriented[:, :2] + oriented[:, 2:]) / 2
    wh, offset = orientation.invert_wh_and_offset(oriented[:, 2:] - oriented[:, :2], center - center.floor())
    assert wh.tolist() == [[6, 2]] and offset.tolist() == [[0.25, 0.75]]


@pytest.fixture(scope="module")
def model():
    cfg = small_cfg(num_classes=2)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.MODEL.CENTER_HEAD.TOPK = 0.0, 20
    cfg.MODEL.ROI_MASK_HEAD.GRID, cfg.MODEL.ROI_MASK_HEAD.PASTE_MODE = "centers", "bilinear"
    cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH, cfg.MODEL.ROI_MASK_HEAD.MASK_NMS_THRESH = 0.5, 1.0
    cfg.MODEL.ROI_MASK_HEAD.SCORE_SOFT_IOU_POWER = 2.0
    torch.manual_seed(5)
    model = build_model(cfg)
    for layer in get_bn_modules(model):
        layer.momentum = 1.0
    with EventStorage(), torch.no_grad():
        model(disk_batch([(64, 96)], [4]))
    # Masks, sizes and centers that depend on the image: those of fresh weights are nearly constant.
    head = model.proposal_generator.head
    for layer in (head.heatmap[2], head.wh[2], head.offset[2], model.roi_heads.mask_head.seg_head.predictor):
        torch.nn.init.normal_(layer.weight, std=0.2)
    torch.nn.init.constant_(head.wh[2].bias, 4.0)
    return model.eval()


def predict(model, image, count):
    model.orientations = ORIENTATIONS[:count]
    with torch.no_grad():
        return model([{"image": image, "height": image.shape[1], "width": image.shape[2]}])[0]["instances"]


@pytest.mark.parametrize(("count", "orientation"), [(2, 1), (4, 2), (8, 5)])
def test_the_prediction_of_a_flipped_image_is_the_flipped_prediction(model, count, orientation):
    image = disk_batch([(32, 64)], [4])[0]["image"]
    orientation = ORIENTATIONS[orientation]
    other = orientation.apply(image).contiguous()
    plain, oriented = predict(model, image, count), predict(model, other, count)
    assert len(plain) == len(oriented) > 5
    torch.testing.assert_close(oriented.scores, plain.scores, atol=1e-4, rtol=1e-3)
    assert torch.equal(oriented.pred_classes, plain.pred_classes)
    masks, expected = oriented.pred_masks, orientation.apply(plain.pred_masks)
    assert (masks & expected).sum() > 0.999 * (masks | expected).sum() > 100
    # Which is no property of the model itself.
    assert (predict(model, image, 1).scores[:5] - predict(model, other, 1).scores[:5]).abs().max() > 1e-3


@pytest.mark.parametrize("count", [1, 4])
def test_masks_are_means_over_the_orientations_and_scores_follow_them(model, count):
    model = copy.deepcopy(model)
    # Every mask is sigmoid(0.5) all over, in whichever orientation.
    predictor = model.roi_heads.mask_head.seg_head.predictor
    torch.nn.init.zeros_(predictor.weight)
    torch.nn.init.constant_(predictor.bias, 0.5)
    images, found = model.preprocess_image(disk_batch([(32, 64)], [4])), []
    for model.roi_heads.score_soft_iou_power in (0.0, 2.0):
        with torch.no_grad():
            found += detect(model, images, ORIENTATIONS[:count])
    # Without boxes too small for a mask.
    plain, rescored = (instances[found[1].scores > 0] for instances in found)
    probability = torch.tensor(0.5).sigmoid()
    probabilities = rescored.pred_masks.probabilities
    assert len(rescored) > 5
    torch.testing.assert_close(probabilities, probability.expand_as(probabilities))
    # The soft IoU of such a mask with the whole ROI.
    torch.testing.assert_close(rescored.scores, plain.scores.sqrt() * probability)


def test_other_numbers_and_other_proposals_are_refused():
    cfg = small_cfg()
    cfg.TEST.ORIENTATIONS = 3
    with pytest.raises(ValueError, match=r"TEST\.ORIENTATIONS must be 1, 2, 4 or 8, not 3"):
        build_model(cfg)
    cfg.TEST.ORIENTATIONS = 2
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    cfg.MODEL.RPN.IN_FEATURES = ["c4"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16]]
    model = build_model(cfg).eval()
    with pytest.raises(ValueError, match="set it to 1 or MODEL.PROPOSAL_GENERATOR.NAME to CenterKeypointProposals"):
        model(disk_batch([(64, 64)], [1]))
