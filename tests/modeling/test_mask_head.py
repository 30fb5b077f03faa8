import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from benchmarks.reference.mask_head_loop import mask_head_loop
from benchmarks.reference.rois import mask_loss
from objguided_d2.modeling import mask_head
from objguided_d2.modeling.cldice import soft_cldice_loss
from objguided_d2.modeling.mask_head import ModuleS, ObjectGuidedMaskHead, SegHead
from objguided_d2.modeling.mask_targets import jitter_boxes
from objguided_d2.modeling.point_refine import PointRefinement
from objguided_d2.modeling.released_checkpoint import convert_released_state_dict
from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.roi_atlas import RoiAtlas, expand_boxes
from objguided_d2.structures.roi_canvas import RoiCanvas
from tests.conftest import xyxy
from tests.modeling.models import CHANNELS, small_cfg

PREFIX = "roi_heads.mask_head."


def make_head(**settings) -> ObjectGuidedMaskHead:
    shapes = {name: ShapeSpec(channels=c, stride=2**i) for i, (name, c) in enumerate(CHANNELS.items())}
    refinement = PointRefinement(e1_channels=4, e2_channels=4, k=3, beta=0.75, d=8, loss_weight=1)
    settings = {
        "ladder_channels": [0] * 4,
        "norm_affine": False,
        "seg_head_dim": 4,
        "refinement": refinement,
    } | settings
    return ObjectGuidedMaskHead(input_shape=shapes, **settings)


def released_weights(data: dict) -> dict[str, torch.Tensor]:
    return {name[3:].replace("__", "."): value for name, value in data.items() if name.startswith("w__")}


def golden_head(data: dict, device: torch.device) -> ObjectGuidedMaskHead:
    head = make_head(grid="released")
    state = convert_released_state_dict(released_weights(data))
    head.load_state_dict({name.removeprefix(PREFIX): value for name, value in state.items()})
    return head.to(device)


def test_masks_and_ladder_equal_the_released_ones(golden, device):
    data = golden("mask_ladder")
    head = golden_head(data, device)
    features = [data[name].to(device) for name in CHANNELS]
    atlas = RoiAtlas(
        expand_boxes(xyxy(data["boxes_cxcywh"]), 1.1).to(device),
        torch.zeros(8, dtype=torch.int64, device=device),
        head.strides,
        spacing=head.grid,
    )
    logits, (e1, e2, *_) = head.predict(features, atlas)
    masks = atlas.grids[0].split(logits.sigmoid())
    e1, e2 = (canvas.grid.split(canvas.to_list(e)) for canvas, e in zip(atlas.canvases, (e1, e2)))
    levels = torch.stack([torch.arange(len(atlas)) < len(grid) for grid in atlas.grids]).sum(0)
    for roi, k in enumerate(atlas.order.tolist()):
        assert levels[roi] == int(data[f"levels_{k}"])
        torch.testing.assert_close(masks[roi][..., 0].cpu(), data[f"mask_{k}"], atol=1e-4, rtol=0)
        torch.testing.assert_close(e1[roi].permute(2, 0, 1)[None].cpu(), data[f"e1_{k}"], atol=1e-3, rtol=1e-3)
        if f"e2_{k}" in data:
            torch.testing.assert_close(e2[roi].permute(2, 0, 1)[None].cpu(), data[f"e2_{k}"], atol=1e-3, rtol=1e-3)


def test_module_s_equals_the_released_one(golden, device):
    data = golden("module_S")
    low, skip = data["low"], data["skip"]
    module = ModuleS(low.shape[1], skip.shape[1], skip.shape[1], affine=False)
    state = {name.replace("__", "."): v for name, v in data.items() if "__" in name}
    module.load_state_dict(
        {n.replace("up.0.", "up.").replace("cat_conv.0.", "merge."): v for n, v in state.items()}, strict=True
    )
    number = len(low)
    grid = RaggedGrid(torch.full((number,), 11), torch.full((number,), 13), torch.device("cpu"))
    canvas = RoiCanvas(grid, number)
    resized = torch.nn.functional.interpolate(low, size=skip.shape[2:], mode="bilinear", align_corners=False)
    rows = [canvas.from_list(t.permute(0, 2, 3, 1).reshape(-1, t.shape[1])) for t in (resized, skip)]
    output = canvas.to_list(module(canvas, *rows)).view(number, 11, 13, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(output, data["output"], atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_a_loop_over_rois(golden):
    data = golden("mask_ladder")
    boxes = xyxy(data["boxes_cxcywh"])
    head = golden_head(data, torch.device("cpu")).double()
    state = {n: v.double().requires_grad_() for n, v in released_weights(data).items()}
    features = [data[name].double().requires_grad_() for name in CHANNELS]
    copies = [f.detach().clone().requires_grad_() for f in features]

    atlas = RoiAtlas(
        expand_boxes(boxes.double(), 1.1), torch.zeros(8, dtype=torch.int64), head.strides, spacing=head.grid
    )
    logits, _ = head.predict(features, atlas)
    atlas.grids[0].mean(logits.sigmoid()).sum().backward()
    masks, _, _ = mask_head_loop(copies, boxes.double(), state)
    sum(mask.sigmoid().mean() for mask in masks if mask is not None).backward()

    for ours, theirs in zip(features, copies):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)
    parameters = dict(head.named_parameters())
    for name, value in state.items():
        if not name.startswith("point_head"):
            ours = parameters[next(iter(convert_released_state_dict({name: value}))).removeprefix(PREFIX)]
            torch.testing.assert_close(ours.grad, value.grad, atol=1e-6, rtol=1e-4)


def make_targets() -> tuple[list[torch.Tensor], list[Instances]]:
    generator = torch.Generator().manual_seed(1)
    features = [torch.randn(2, c, 64 >> i, 96 >> i, generator=generator) for i, c in enumerate(CHANNELS.values())]
    targets = []
    for size, boxes in (((64, 96), [[4, 6, 30, 22], [40, 10, 58, 49]]), ((60, 80), [[10, 12, 41, 30]])):
        instances = Instances(size)
        masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes):
            mask[y1:y2, x1:x2] = True
        instances.gt_boxes, instances.gt_masks = Boxes(torch.tensor(boxes, dtype=torch.float32)), BitMasks(masks)
        targets.append(instances)
    return features, targets


def test_loss_is_the_mean_over_pixels_and_then_over_rois():
    features, targets = make_targets()
    head = make_head(loss_weight=2.0)
    with EventStorage():
        loss = head.losses(features, targets)["loss_mask"]
    logits, labels = [], []
    for image, instances in enumerate(targets):
        for box, mask in zip(instances.gt_boxes.tensor, instances.gt_masks.tensor):
            enlarged = expand_boxes(box[None], 1.1)
            atlas = RoiAtlas(enlarged, torch.tensor([image]), head.strides)
            logits.append(
                head.predict(features, atlas)[0].view(
                    *atlas.grids[0].split(torch.zeros(atlas.grids[0].num_pixels, 1))[0].shape[:2]
                )
            )
            truth = RoiAtlas(enlarged, torch.tensor([0]), (1,)).crop(0, mask[None, None].float())
            labels.append(truth.view_as(logits[-1]))
    torch.testing.assert_close(loss, 2 * mask_loss(logits, labels))


def test_training_rois_are_true_boxes_jittered_and_then_enlarged(monkeypatch):
    features, targets = make_targets()
    head = make_head(box_jitter_shift=0.3, box_jitter_scale=0.1, box_expansion=1.5, box_expansion_pixels=4.0)
    planned, plan = [], head._plan
    monkeypatch.setattr(head, "_plan", lambda boxes, image: planned.append(boxes) or plan(boxes, image))
    torch.manual_seed(7)
    with EventStorage():
        head.losses(features, targets)
    torch.manual_seed(7)
    jittered = jitter_boxes(torch.cat([t.gt_boxes.tensor for t in targets]), shift=0.3, scale=0.1)
    torch.testing.assert_close(planned, [expand_boxes(jittered, 1.5, 4.0)])


def test_a_subset_of_the_objects_learns_their_own_masks(monkeypatch):
    features, targets = make_targets()
    head = make_head(refinement=None)
    with EventStorage():
        expected = head.losses(features, [targets[0][:0], targets[1]])["loss_mask"]
        head.max_train_roi_pixels = 1
        monkeypatch.setattr(mask_head, "sample_rois_within_area", lambda *_: torch.tensor([2]))
        torch.testing.assert_close(head.losses(features, targets)["loss_mask"], expected)


def test_the_seg_head_sees_zeros_around_each_roi():
    torch.manual_seed(0)
    seg_head = SegHead(3, 4)
    for parameter in seg_head.parameters():
        torch.nn.init.normal_(parameter)
    canvas = RoiCanvas(RaggedGrid(torch.tensor([5, 2, 7]), torch.tensor([4, 9, 3]), torch.device("cpu")), 3)
    pixels = torch.randn(canvas.grid.num_pixels, 3)
    values = canvas.from_list(pixels)
    values[canvas.roi == len(canvas)] = 9.0
    logits = canvas.grid.split(canvas.to_list(seg_head(canvas, values)))
    for roi, logit in zip(canvas.grid.split(pixels), logits, strict=True):
        expected = seg_head.predictor(seg_head.conv(roi.permute(2, 0, 1)[None]).relu())
        torch.testing.assert_close(logit[..., 0], expected[0, 0], atol=1e-4, rtol=1e-4)


def test_settings_come_from_their_own_keys():
    cfg = small_cfg()
    keys = cfg.MODEL.ROI_MASK_HEAD
    keys.IN_FEATURES, keys.LADDER_CHANNELS = list(CHANNELS), [24, 20, 16, 12]
    keys.LOSS_TYPE, keys.LOSS_WEIGHT, keys.DICE_LOSS_WEIGHT, keys.CLDICE_LOSS_WEIGHT = "bce_dice", 3.0, 0.5, 0.25
    shapes = {name: ShapeSpec(channels=c, stride=2**i) for i, (name, c) in enumerate(CHANNELS.items())}
    head = ObjectGuidedMaskHead(cfg, shapes)
    assert head.mask_loss_weights == {"loss_mask": 3.0, "loss_mask_dice": 0.5, "loss_mask_cldice": 0.25}
    # From e1 on; the keys begin with e4.
    assert [module.up.out_channels for module in head.ladder] == [12, 16, 20, 24]
    assert head.refinement.fine.in_features == 12 and head.refinement.fine_and_coarse.in_features == 12 + 16


def test_the_cldice_loss_sends_its_gradient_through_the_prediction():
    torch.manual_seed(0)
    head = make_head(cldice_loss_weight=1.0, cldice_iterations=2)
    canvas = RoiCanvas(RaggedGrid(torch.tensor([6, 9]), torch.tensor([8, 5]), torch.device("cpu")), 2)
    logits = torch.randn(canvas.grid.num_pixels, requires_grad=True)
    labels = (torch.rand(canvas.grid.num_pixels) > 0.3).float()
    loss = head._mask_losses(canvas, logits, labels)[1]
    expected = soft_cldice_loss(canvas, logits.sigmoid(), labels, 2)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(value.sum(), logits, retain_graph=True)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_every_parameter_gets_a_gradient():
    features, targets = make_targets()
    head = make_head(norm_affine=True, loss_type="bce_dice")
    with EventStorage():
        losses = head.losses(features, targets)
    assert set(losses) == {"loss_mask", "loss_mask_dice", "loss_refine"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_no_objects_give_zero_losses_that_keep_the_graph():
    features, targets = make_targets()
    features = [f.requires_grad_() for f in features]
    head = make_head(loss_type="bce_dice")
    with EventStorage():
        losses = head.losses(features, [t[:0] for t in targets])
    assert set(losses) == {"loss_mask", "loss_mask_dice", "loss_refine"}
    assert all(loss == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


def test_ladder_of_other_widths_projects_rois_that_start_late():
    features, targets = make_targets()
    head = make_head(ladder_channels=[6, 6, 5, 5], refinement=None)
    boxes = Boxes(torch.tensor([[4.0, 6, 7, 9], [3, 3, 12, 14], [0, 0, 60, 60]]))
    masks = head(features, [boxes, Boxes(torch.zeros(0, 4))], [(64, 96), (60, 80)])
    assert [len(m) for m in masks] == [3, 0]
    assert list(zip(masks[0].grid.heights.tolist(), masks[0].grid.widths.tolist())) == [(3, 3), (12, 9), (66, 66)]


def test_masks_come_in_the_order_of_their_boxes(golden):
    data = golden("mask_ladder")
    head = golden_head(data, torch.device("cpu"))
    # Without the last two, which reach beyond the image: the released program does not clip boxes.
    boxes = Boxes(torch.cat([xyxy(data["boxes_cxcywh"])[:6], torch.tensor([[5.0, 5, 6, 6]])]))
    (masks,) = head([data[name] for name in CHANNELS], [boxes], [(128, 160)])
    parts = masks.grid.split(masks.probabilities)
    for k in range(6):
        torch.testing.assert_close(parts[k], data[f"mask_{k}"], atol=1e-4, rtol=0)
    assert parts[6].tolist() == [[0.0]]


@pytest.mark.parametrize("factor", [1.0, 1e3, 1e30, float("inf"), float("nan")])
def test_boxes_of_any_size_make_crops_no_larger_than_the_image(factor):
    features, targets = make_targets()
    head = make_head(ladder_channels=[6, 6, 5, 5], refinement=None, max_atlas_pixels=2000)
    boxes = torch.cat([targets[0].gt_boxes.tensor, torch.tensor([[-1.0, -1, 1, 1], [0, 0, 95, 63]])])
    image_sizes = [t.image_size for t in targets]
    for masks in head(features, [Boxes(boxes * factor), Boxes(boxes.flip(1) * factor)], image_sizes):
        assert len(masks) == 4 and masks.probabilities.isfinite().all()
        assert (masks.grid.heights * masks.grid.widths).max() <= 2000
        assert not masks.paste((64, 96), 0.5, "hough").area().gt(64 * 96).any()


def test_a_roi_beyond_the_budget_gets_a_mask_of_its_whole_box():
    features, targets = make_targets()
    head = make_head(max_atlas_pixels=1500)
    torch.nn.init.constant_(head.seg_head.predictor.bias, 9.0)
    given = [Boxes(torch.tensor([[5.0, 4, 85, 60], [10, 10, 20, 20]])), Boxes(torch.zeros(0, 4))]
    masks = head(features, given, [t.image_size for t in targets])[0]
    assert (masks.grid.heights * masks.grid.widths)[0] <= 1500
    for mode in ("hough", "bilinear"):
        large, small = masks.paste((64, 96), 0.5, mode).tensor
        assert large[5:59, 6:84].all() and small[11:19, 11:19].all() and small.sum() <= 13 * 13


def test_masks_and_losses_do_not_depend_on_the_area_limit():
    features, targets = make_targets()
    boxes = [Boxes(torch.cat([t.gt_boxes.tensor, t.gt_boxes.tensor * 0.3])) for t in targets]
    head, results = make_head(ladder_channels=[6, 6, 5, 5], refinement=None), []
    for limit in (0, 1000):
        head.max_atlas_pixels = limit
        with EventStorage():
            loss = head.losses(features, targets)["loss_mask"]
        gradient = torch.autograd.grad(loss, head.ladder[0].up.weight)[0]
        masks = head(features, boxes, [t.image_size for t in targets])
        results.append((loss, gradient, *(m.probabilities for m in masks)))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    "key, settings",
    [
        ("LADDER_CHANNELS", {"ladder_channels": [8, 8]}),
        ("GRID", {"grid": "corners"}),
        ("LOSS_TYPE", {"loss_type": "focal"}),
        ("CLDICE_LOSS_WEIGHT", {"cldice_loss_weight": -1.0}),
        ("BOX_EXPANSION", {"box_expansion": 0.0}),
        ("MIN_CROP_SIZE", {"min_crop_size": 0}),
    ],
)
def test_invalid_settings_are_refused_by_their_key(key, settings):
    with pytest.raises(ValueError, match=f"MODEL.ROI_MASK_HEAD.{key}"):
        make_head(**settings)


def test_each_mask_loss_has_a_weight_of_its_own():
    features, targets = make_targets()
    values = {}
    for weights in ((1.0, 1.0), (2.0, 3.0), (0.0, 1.0), (2.0, 0.0)):
        torch.manual_seed(0)
        head = make_head(loss_type="bce_dice", loss_weight=weights[0], dice_loss_weight=weights[1])
        with EventStorage():
            values[weights] = head.losses(features, targets)
    plain = values[1.0, 1.0]
    assert set(plain) == {"loss_mask", "loss_mask_dice", "loss_refine"} and all(loss > 0 for loss in plain.values())
    for (bce, dice), losses in values.items():
        torch.testing.assert_close(losses["loss_mask"], bce * plain["loss_mask"])
        torch.testing.assert_close(losses["loss_mask_dice"], dice * plain["loss_mask_dice"])
        torch.testing.assert_close(losses["loss_refine"], plain["loss_refine"])


def test_the_dice_loss_is_that_of_dense_masks():
    features, targets = make_targets()
    head = make_head(loss_type="bce_dice", dice_loss_weight=1.0, refinement=None)
    with EventStorage():
        loss = head.losses(features, [targets[0][:1], targets[1][:0]])["loss_mask_dice"]
    box = expand_boxes(targets[0].gt_boxes.tensor[:1], 1.1)
    image = torch.zeros(1, dtype=torch.int64)
    probability = head.predict(features, RoiAtlas(box, image, head.strides))[0].sigmoid()
    truth = RoiAtlas(box, image, (1,)).crop(0, targets[0].gt_masks.tensor[None, :1].float())
    expected = 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    torch.testing.assert_close(loss, expected)


def test_the_cldice_loss_is_there_with_a_weight_and_reaches_the_ladder():
    features, targets = make_targets()
    values = {}
    for weight in (0.0, 1.0, 3.0):
        torch.manual_seed(0)
        head = make_head(loss_type="bce_dice", cldice_loss_weight=weight, refinement=None)
        with EventStorage():
            values[weight] = head.losses(features, targets)
    assert set(values[0.0]) == {"loss_mask", "loss_mask_dice"}
    assert list(values[1.0]) == ["loss_mask", "loss_mask_dice", "loss_mask_cldice"]
    assert all(torch.equal(values[0.0][name], values[3.0][name]) for name in values[0.0])
    assert 0 < values[1.0]["loss_mask_cldice"] < 1
    torch.testing.assert_close(values[3.0]["loss_mask_cldice"], 3 * values[1.0]["loss_mask_cldice"])
    values[3.0]["loss_mask_cldice"].backward()
    assert head.seg_head.predictor.weight.grad.any() and head.ladder[0].up.weight.grad.any()
    with EventStorage():
        nothing = head.losses(features, [t[:0] for t in targets])
    assert list(nothing) == list(values[1.0]) and all(loss == 0 for loss in nothing.values())
