import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch.utils._python_dispatch import TorchDispatchMode

from objguided_d2.modeling import ragged_masks
from tests.modeling.models import LOSSES, disk_batch, ignoring_batch, predicting_model, small_cfg, training_losses
from tests.structures.masks import largest_pieces_of


def test_losses_of_a_batch_with_an_empty_image_and_several_classes(device):
    torch.manual_seed(0)
    model = build_model(small_cfg(num_classes=3, device=str(device)))
    losses = training_losses(model, disk_batch([(64, 96), (70, 50), (33, 65)], [4, 0, 2], num_classes=3))
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


def test_a_batch_without_any_object_keeps_the_graph(device):
    model = build_model(small_cfg(device=str(device)))
    losses = training_losses(model, disk_batch([(64, 64), (64, 64)], [0, 0]))
    assert set(losses) == LOSSES and losses["loss_mask"] == 0 and losses["loss_wh"] == 0
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_without_refinement_there_is_no_refinement_loss_nor_head():
    cfg = small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.REFINE.ENABLED = False
    model = build_model(cfg)
    assert set(training_losses(model, disk_batch([(64, 64)], [2]))) == LOSSES - {"loss_refine"}
    assert not [name for name, _ in model.named_parameters() if "refine" in name]


def test_refinement_changes_nothing_at_test_time():
    torch.manual_seed(0)
    model = predicting_model(small_cfg())
    batch = disk_batch([(64, 80)], [3])
    with torch.no_grad():
        before = model(batch)[0]["instances"]
        assert len(before)
        model.roi_heads.mask_head.refinement = None
        after = model(batch)[0]["instances"]
    assert torch.equal(before.pred_masks, after.pred_masks)


def test_boxes_alone_are_found_where_masks_are_off():
    torch.manual_seed(0)
    model = predicting_model(small_cfg())
    image = disk_batch([(64, 80)], [3])[0]["image"]
    model.roi_heads.mask_on = False
    with torch.no_grad():
        instances = model([{"image": image, "height": 32, "width": 40}])[0]["instances"]
    assert len(instances) and not instances.has("pred_masks")
    assert instances.image_size == (32, 40) and instances.pred_boxes.tensor.max() <= 40


def test_polygons_train_like_their_bitmasks():
    corners = torch.tensor([[10.0, 12, 31, 40], [40, 20, 52, 33]])
    polygons = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in corners.tolist()]
    losses = []
    for masks in (PolygonMasks(polygons), BitMasks.from_polygon_masks(polygons, 64, 64)):
        torch.manual_seed(0)
        batch = disk_batch([(64, 64)], [0])
        batch[0]["instances"] = Instances(
            (64, 64), gt_boxes=Boxes(corners), gt_classes=torch.zeros(2, dtype=torch.int64), gt_masks=masks
        )
        losses.append(training_losses(build_model(small_cfg()), batch))
    for name in LOSSES:
        torch.testing.assert_close(losses[0][name], losses[1][name])


def test_predictions_have_detectron2_fields_at_the_output_size(device):
    torch.manual_seed(0)
    cfg = small_cfg(num_classes=2, device=str(device))
    cfg.TEST.DETECTIONS_PER_IMAGE = 20
    model = predicting_model(cfg)
    batch = disk_batch([(50, 75), (64, 40)], [3, 1])
    batch[0].update(height=100, width=225)
    with torch.no_grad():
        first, second = (output["instances"] for output in model(batch))
    assert first.image_size == (100, 225) and second.image_size == (64, 40)
    for instances in (first, second):
        assert 0 < len(instances) <= 20
        assert set(instances.get_fields()) == {"pred_boxes", "scores", "pred_classes", "pred_masks"}
        assert (instances.scores.diff() <= 0).all() and (instances.scores <= 1).all()
        assert instances.pred_masks.shape == (len(instances), *instances.image_size)
        tight = BitMasks(instances.pred_masks).get_bounding_boxes().tensor
        assert torch.equal(instances.pred_boxes.tensor.cpu(), tight.cpu())


def test_given_boxes_get_masks_in_their_order():
    torch.manual_seed(0)
    model = build_model(small_cfg()).eval()
    given = Instances((64, 80), pred_boxes=Boxes(torch.tensor([[40.0, 4, 60, 20], [3, 30, 30, 60]])))
    given.pred_classes, given.scores = torch.zeros(2, dtype=torch.int64), torch.tensor([0.2, 0.9])
    with torch.no_grad(), ragged_masks(model):
        (result,) = model.inference(disk_batch([(64, 80)], [0]), [given], do_postprocess=False)
    assert list(zip(result.pred_masks.grid.heights.tolist(), result.pred_masks.grid.widths.tolist())) == [
        (17, 22),
        (33, 29),
    ]


def test_nothing_above_the_threshold_gives_empty_instances_with_all_fields():
    cfg = small_cfg()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.9
    with torch.no_grad():
        (output,) = build_model(cfg).eval()(disk_batch([(64, 80)], [0]))
    instances = output["instances"]
    assert len(instances) == 0 and instances.pred_masks.shape == (0, 64, 80)
    assert instances.pred_boxes.tensor.shape == (0, 4)


WILD = {
    "huge": lambda p: p.mul_(1e6),
    "random": lambda p: torch.nn.init.normal_(p, std=30.0),
    "infinite": lambda p: p.fill_(float("inf")),
    "nan": lambda p: p.fill_(float("nan")),
}


@pytest.mark.parametrize("which", ["all", "heads"])
@pytest.mark.parametrize("kind", WILD)
def test_any_weights_give_finite_instances_in_bounded_memory(kind, which):
    cfg = small_cfg()
    cfg.MODEL.CENTER_HEAD.TOPK = 50
    cfg.MODEL.ROI_MASK_HEAD.MAX_ATLAS_PIXELS = 6000
    torch.manual_seed(0)
    model = predicting_model(cfg)
    with torch.no_grad():
        for parameter in (model if which == "all" else model.proposal_generator).parameters():
            WILD[kind](parameter)
    with torch.no_grad(), LargestTensor() as memory:
        for output in model(disk_batch([(50, 75), (96, 64)], [3, 0])):
            instances = output["instances"]
            assert instances.scores.isfinite().all() and instances.pred_boxes.tensor.isfinite().all()
            assert instances.pred_boxes.tensor.max() <= 96 if len(instances) else True
    # Of 50 ROIs no larger than the image and its margin, or of 64 channels of the image.
    assert memory.numel <= 64 * 2 * 96 * 96


class LargestTensor(TorchDispatchMode):
    """Keeps the number of elements of the largest tensor that is made in it."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def test_a_class_beyond_num_classes_is_refused_with_the_key():
    model = build_model(small_cfg(num_classes=2))
    batch = disk_batch([(64, 64), (64, 64)], [2, 2])
    batch[0]["instances"].gt_classes[1] = 2
    with pytest.raises(ValueError, match="class 2, but the heatmap has 2 classes.*MODEL.ROI_HEADS.NUM_CLASSES"):
        training_losses(model, batch)


def test_bfloat16_autocast_trains_and_predicts(device):
    torch.manual_seed(0)
    model, batch = predicting_model(small_cfg(device=str(device))), disk_batch([(64, 96)], [4])
    full = training_losses(model, batch)
    with torch.autocast(device.type, torch.bfloat16):
        losses = training_losses(model, batch)
        sum(losses.values()).backward()
        with torch.no_grad():
            instances = model.eval()(batch)[0]["instances"]
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert abs(losses["loss_center_heatmap"] - full["loss_center_heatmap"]) < 0.05 * full["loss_center_heatmap"]
    assert len(instances)


def rpn_cfg(num_classes: int = 1):
    cfg = small_cfg(num_classes)
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "RPN"
    cfg.MODEL.RPN.IN_FEATURES = ["c3"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8, 16]]
    cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH = 0.3
    return cfg


def test_another_proposal_generator_trains_and_predicts():
    torch.manual_seed(0)
    model = build_model(rpn_cfg())
    losses = training_losses(model, ignoring_batch())
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc", "loss_mask", "loss_refine"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    sum(losses.values()).backward()
    optimizer.step()
    with torch.no_grad():
        instances = model.eval()(disk_batch([(64, 80)], [3]))[0]["instances"]
    assert len(instances) and not instances.pred_classes.any()


def test_proposals_without_classes_are_refused_where_there_are_several():
    model = build_model(rpn_cfg(num_classes=2)).eval()
    with torch.no_grad(), pytest.raises(ValueError, match="MODEL.PROPOSAL_GENERATOR.NAME"):
        model(disk_batch([(64, 80)], [3]))


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL.CENTER_HEAD.TOPK", 0),
        ("MODEL.CENTER_HEAD.WH_KERNEL", 4),
        ("MODEL.CENTER_HEAD.GAUSSIAN_RULE", "circle"),
        ("MODEL.CENTER_HEAD.GAUSSIAN_SIGMA", "third"),
        ("MODEL.CENTER_HEAD.GAUSSIAN_MIN_OVERLAP", 1.5),
        ("MODEL.CENTER_HEAD.REG_LOSS_TYPE", "giou"),
        ("MODEL.CENTER_HEAD.HEATMAP_PRIOR", 1.0),
        ("MODEL.CENTER_HEAD.IN_FEATURE", "c9"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.2),
        ("MODEL.ROI_MASK_HEAD.MASK_THRESH", 0.0),
        ("MODEL.ROI_MASK_HEAD.PASTE_MODE", "nearest"),
        ("MODEL.ROI_MASK_HEAD.MASK_NMS_THRESH", 1.5),
        ("MODEL.ROI_MASK_HEAD.GRID", "corners"),
        ("MODEL.ROI_MASK_HEAD.REFINE.D", 0.0),
        ("TEST.DETECTIONS_PER_IMAGE", 0),
    ],
)
def test_invalid_values_are_refused_at_build_time_by_their_key(key, value):
    cfg = small_cfg()
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=key):
        build_model(cfg)


def test_largest_pieces_alone_are_kept_where_the_key_says_so():
    predictions = []
    for largest_piece in (False, True):
        torch.manual_seed(0)
        cfg = small_cfg()
        cfg.MODEL.ROI_MASK_HEAD.LARGEST_PIECE = largest_piece
        cfg.MODEL.ROI_MASK_HEAD.MASK_NMS_THRESH = 1.0
        with torch.no_grad():
            predictions.append(predicting_model(cfg)(disk_batch([(50, 75)], [3]))[0]["instances"])
    every, largest = predictions
    assert torch.equal(every.scores, largest.scores)
    assert not torch.equal(every.pred_masks, largest.pred_masks)
    for mask, kept in zip(every.pred_masks.numpy(), largest.pred_masks.numpy(), strict=True):
        assert any(np.array_equal(kept, piece) for piece in largest_pieces_of(mask))
    assert torch.equal(largest.pred_boxes.tensor, BitMasks(largest.pred_masks).get_bounding_boxes().tensor)


@pytest.mark.parametrize("paste_mode", ["hough", "bilinear"])
def test_masks_of_the_input_come_along_for_the_evaluator_that_resizes_them_itself(paste_mode):
    cfg = small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.PASTE_MODE = paste_mode
    cfg.TEST.EVALUATORS = ["coco", "released"]
    model = predicting_model(cfg)
    inputs = [{**disk_batch([(50, 75)], [3])[0], "height": 50, "width": 75}]
    with torch.no_grad():
        at_input_size = model(inputs)[0]["instances"]
        inputs[0] |= {"height": 100, "width": 225}
        larger = model(inputs)[0]["instances"]
    assert len(larger) and larger.input_masks.image_size == (50, 75)
    assert torch.equal(at_input_size.input_masks.tensor, at_input_size.pred_masks)
    if paste_mode == "hough":
        assert torch.equal(larger.pred_masks[:, ::2, ::3], larger.input_masks.tensor)
