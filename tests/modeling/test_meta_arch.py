import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from torch.utils._python_dispatch import TorchDispatchMode

from objguided_d2 import get_cfg
from objguided_d2.modeling import ragged_masks
from tests.modeling.models import disk_batch, small_cfg

LOSSES = {"loss_center_heatmap", "loss_wh", "loss_offset", "loss_mask", "loss_refine"}


def training_losses(model, batch) -> dict[str, torch.Tensor]:
    with EventStorage():
        return model.train()(batch)


def predicting_model(cfg) -> torch.nn.Module:
    """An untrained model whose boxes have a size and whose masks are not empty."""
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_MASK_HEAD.MASK_THRESH = 0.3
    model = build_model(cfg)
    torch.nn.init.constant_(model.proposal_generator.head.wh[-1].bias, 4.0)
    return model.eval()


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


def ignoring_batch() -> list[dict]:
    """Two sizes, so that one image is padded, with a region on the first alone."""
    batch = disk_batch([(50, 75), (64, 96)], [0, 3])
    batch[0]["ignore_region"] = torch.zeros(50, 75, dtype=torch.bool)
    # The cells of rows 2 - 11 and of columns 5 - 17 at stride 4; those of row 12 and column 18 reach beyond the image.
    batch[0]["ignore_region"][8:, 18:] = True
    return batch


def test_the_heatmap_learns_no_background_where_crowds_are(device):
    torch.manual_seed(0)
    model, heatmaps = build_model(small_cfg(num_classes=2, device=str(device))), []

    def keep(module, args, heatmap):
        heatmap.retain_grad()
        heatmaps.append(heatmap)

    model.proposal_generator.head.register_forward_hook(keep)
    losses = training_losses(model, ignoring_batch())
    losses["loss_center_heatmap"].backward()
    expected = torch.zeros(2, 2, 16, 24, dtype=torch.bool)
    expected[0, :, 2:12, 5:18] = True
    assert torch.equal(heatmaps[0].grad.cpu() == 0, expected)


def test_crowds_change_the_heatmap_loss_alone(device):
    losses = []
    for batch in (ignoring_batch(), ignoring_batch(), ignoring_batch()):
        if len(losses) == 1:
            batch[0]["ignore_region"].zero_()
        if len(losses) == 2:
            del batch[0]["ignore_region"]
        torch.manual_seed(0)
        losses.append(training_losses(build_model(small_cfg(device=str(device))), batch))
    ignoring, empty, plain = losses
    assert ignoring["loss_center_heatmap"] < plain["loss_center_heatmap"]
    for name in LOSSES:
        assert torch.equal(empty[name], plain[name])
        if name != "loss_center_heatmap":
            assert torch.equal(ignoring[name], plain[name])


def test_crowds_under_autocast(device):
    torch.manual_seed(0)
    model = build_model(small_cfg(device=str(device)))
    with torch.autocast(device.type, torch.bfloat16):
        losses = training_losses(model, ignoring_batch())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_other_methods_take_samples_with_crowds():
    """Mask R-CNN follows the instances alone."""
    cfg = get_cfg("configs/dsb2018/mask_rcnn_R_18_FPN_256.yaml")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    batches = [disk_batch([(64, 96)], [3]) for _ in range(2)]
    batches[0][0]["ignore_region"] = torch.ones(64, 96, dtype=torch.bool)
    losses = []
    for batch in batches:
        torch.manual_seed(0)
        losses.append(training_losses(build_model(cfg), batch))
    assert losses[0].keys() == losses[1].keys()
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])


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


def test_padding_changes_nothing_of_an_image_whose_size_is_a_multiple():
    torch.manual_seed(0)
    cfg = small_cfg()
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model = build_model(cfg).eval()
    small, large = disk_batch([(64, 64), (96, 128)], [2, 2])
    with torch.no_grad():
        heatmap = [
            model.proposal_generator.head(model.backbone(model.preprocess_image(b).tensor)["c3"])[0]
            for b in ([large], [large, small])
        ]
    torch.testing.assert_close(heatmap[0], heatmap[1], atol=1e-5, rtol=1e-4)


def peaky_model(cfg=None, seed: int = 0) -> torch.nn.Module:
    """An untrained model that detects many things of several sizes."""
    torch.manual_seed(seed)
    cfg = cfg or small_cfg()
    cfg.MODEL.ROI_MASK_HEAD.MASK_NMS_THRESH = 1.0
    model = predicting_model(cfg)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # The statistics of one batch.
    training_losses(model, disk_batch([(64, 64)] * 4, [4] * 4))
    head = model.proposal_generator.head
    for branch, spread in ((head.heatmap, 1.0), (head.wh, 1.0), (head.offset, 0.1)):
        torch.nn.init.normal_(branch[-1].weight, std=0.05 * spread)
    torch.nn.init.normal_(model.roi_heads.mask_head.seg_head.predictor.weight, std=0.1)
    return model.eval()


def assert_same_instances(first: Instances, second: Instances) -> None:
    assert len(first) == len(second) and first.image_size == second.image_size
    torch.testing.assert_close(first.scores, second.scores, atol=1e-4, rtol=0)
    assert torch.equal(first.pred_classes, second.pred_classes)
    assert torch.equal(first.pred_masks, second.pred_masks)


def test_an_image_gives_the_same_instances_alone_and_in_any_batch():
    cfg = small_cfg()
    cfg.MODEL.CENTER_HEAD.TOPK = 15
    model = peaky_model(cfg)
    # Two have one padded size, none the same size.
    batch = disk_batch([(50, 75), (64, 96), (33, 120)], [3, 4, 2])
    with torch.no_grad():
        alone = [model([inputs])[0]["instances"] for inputs in batch]
        together = [output["instances"] for output in model(batch)]
        reverse = [output["instances"] for output in model(batch[::-1])][::-1]
    assert all(len(instances) > 5 for instances in alone)
    for instances, *others in zip(alone, together, reverse):
        for other in others:
            assert_same_instances(instances, other)


def test_a_larger_image_takes_no_peaks_from_a_smaller_one():
    cfg = small_cfg()
    cfg.MODEL.CENTER_HEAD.TOPK = 10
    model = peaky_model(cfg)
    small, large = disk_batch([(37, 41), (64, 64)], [2, 2])
    images = model.preprocess_image([small, large])
    assert images.tensor.shape[-2:] == (64, 64)
    with torch.no_grad():
        features = model.backbone(images.tensor)
        proposals, _ = model.proposal_generator(images, features)
    assert 5 < len(proposals[0]) <= 10
    centers = proposals[0].proposal_boxes.get_centers()
    # A cell of 4 x 4 pixels belongs to the image if its first pixel does; offsets are near zero here.
    assert (centers < torch.tensor([44.5, 40.5])).all()


def test_padding_is_black():
    cfg = small_cfg()
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [10.0, 20.0, 30.0], [2.0, 4.0, 5.0]
    model = build_model(cfg)
    (inputs,) = disk_batch([(40, 50)], [1])
    black = {"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}
    black["image"][:, :40, :50] = inputs["image"]
    padded, whole = (model.preprocess_image([x]).tensor for x in (inputs, black))
    assert torch.equal(padded, whole)
    expected = (inputs["image"].float() - model.pixel_mean) / model.pixel_std
    assert torch.equal(padded[0, :, :40, :50], expected)


def test_bfloat16_finds_nearly_what_float32_finds():
    model = peaky_model()
    batch = disk_batch([(128, 160)], [12])
    counts = []
    with torch.no_grad():
        counts.append(len(model.proposal_generator(*_maps(model, batch))[0][0]))
        with torch.autocast("cpu", torch.bfloat16):
            heatmap = model.proposal_generator.head(_maps(model, batch)[1]["c3"])
            assert heatmap.dtype == torch.float32
            counts.append(len(model.proposal_generator(*_maps(model, batch))[0][0]))
    assert abs(counts[1] - counts[0]) <= 0.05 * counts[0]


def _maps(model, batch):
    images = model.preprocess_image(batch)
    return images, model.backbone(images.tensor)


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
