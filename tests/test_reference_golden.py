"""The plain reference against values computed once with the authors' released program (tests/golden)."""

import pytest
import torch

from benchmarks.reference import refine, rois
from benchmarks.reference.mask_head_loop import mask_head_loop
from tests.reference import centers, instances


def assert_close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0, check_dtype=False)


def enlarged_boxes(values: dict[str, torch.Tensor], factor: float = 1.1) -> torch.Tensor:
    boxes = values["boxes_cxcywh"]
    return rois.cxcywh_to_xyxy(torch.cat([boxes[:, :2], boxes[:, 2:] * factor], dim=1))


def released_names(values: dict[str, torch.Tensor]) -> rois.State:
    """In the names of weights ``__`` represents the dot."""
    return {name.replace("__", "."): value for name, value in values.items()}


def test_gaussian_radius(golden):
    values = golden("gaussian_radius")
    for (h, w), expected in zip(values["height_width"].tolist(), values["radius"].tolist()):
        radius = centers.gaussian_radius_cornernet(h, w, values["min_overlap"].item())
        assert radius == pytest.approx(expected, abs=1e-5)


def test_center_targets(golden):
    values = golden("center_targets")
    boxes = values["boxes_cxcywh_stride4"]
    heatmap, wh, offset, index = centers.center_targets(boxes, torch.zeros(len(boxes)).long(), 1, 48, 64)
    assert_close(heatmap, values["heatmap"])
    assert_close(wh, values["wh"])
    assert_close(offset, values["offset"])
    assert index.tolist() == values["index"].tolist()


def test_focal_loss(golden):
    values = golden("focal_loss")
    assert_close(centers.heatmap_focal_loss(values["pred"], values["target"]), values["loss"])


def test_decode(golden):
    values = golden("decode")
    decoded = centers.decode_centers(
        values["heatmap"][0], values["wh"][0], values["offset"][0], values["topk"].item(), values["score_thresh"].item()
    )
    assert_close(decoded, values["detections_cxcywh_score_class_stride4"])


def test_grid_crop(golden):
    values = golden("grid_crop")
    for k, box in enumerate(enlarged_boxes(values, values["expand"].item())):
        expected = values[f"crop_{k}"]
        assert (rois.count_levels(box, strides=[1]) == 0) == (expected.numel() == 0)
        if expected.numel():
            assert_close(rois.crop_roi(values["feature"], box, stride=1), expected)


@pytest.mark.parametrize("name, module", [("module_B", rois.module_b), ("module_S", rois.module_s)])
def test_module(golden, name, module):
    values = golden(name)
    assert_close(module(values["low"], values["skip"], released_names(values)), values["output"])


def test_mask_ladder(golden):
    values = golden("mask_ladder")
    features = [values[f"c{i}"] for i in range(1, 6)]
    boxes = enlarged_boxes(values)
    for k, box in enumerate(boxes):
        assert rois.count_levels(box) == values[f"levels_{k}"]
        logits, maps = rois.mask_ladder(features, box, rois.submodule(released_names(values), "w"))
        assert_close(logits.sigmoid(), values[f"mask_{k}"], atol=1e-4)
        assert_close(maps[0], values[f"e1_{k}"], atol=1e-4)
        assert (len(maps) > 1) == (f"e2_{k}" in values)
        if len(maps) > 1:
            assert_close(maps[1], values[f"e2_{k}"], atol=1e-4)


def test_mask_head_loop(golden):
    values = golden("mask_ladder")
    features = {f"c{i}": values[f"c{i}"] for i in range(1, 6)}
    too_small = torch.tensor([[50.0, 50.0, 51.0, 80.0]])
    boxes = torch.cat([rois.cxcywh_to_xyxy(values["boxes_cxcywh"]), too_small])
    *results, last = zip(*mask_head_loop(features, boxes, rois.submodule(released_names(values), "w")))
    assert last == (None, None, None)
    for k, (logits, e1, e2) in enumerate(results):
        assert_close(logits.sigmoid(), values[f"mask_{k}"], atol=1e-4)
        assert_close(e1, values[f"e1_{k}"], atol=1e-4)
        if f"e2_{k}" in values:
            assert_close(e2, values[f"e2_{k}"], atol=1e-4)
        else:
            assert e2 is None


def test_uncertain_points(golden):
    values = golden("uncertain_points")
    uncertainty = refine.point_uncertainty(values["mask"], values["points_xy01"])
    assert_close(uncertainty, values["uncertainty"])
    assert refine.most_uncertain(uncertainty, 50).tolist() == values["top_index"].tolist()


def test_hough_paste(golden):
    values = golden("hough_paste")
    height, width = values["height"].item(), values["width"].item()
    for k, box in enumerate(enlarged_boxes(values, factor=1.0)):
        votes = instances.hough_paste(values[f"roi_{k}"], box, height, width)
        assert torch.equal(votes > values["threshold"], values[f"pasted_{k}"].bool())


def test_mask_nms(golden):
    values = golden("mask_nms")
    kept = instances.mask_nms(values["masks"].bool(), values["scores"], values["iou_thresh"].item())
    assert kept == values["keep"].tolist()


def test_soft_labels_at_crop_points_are_the_mask_target():
    mask = torch.zeros(40, 56)
    mask[10:25, 20:31] = 1
    box = torch.tensor([14.3, 5.8, 60.1, 30.2])
    h, w = rois.crop_size(box, 1)
    grid = torch.stack(torch.meshgrid(torch.linspace(0, 1, w), torch.linspace(0, 1, h), indexing="xy"), -1)
    target = rois.crop_roi(mask[None, None], box, 1)[0, 0]
    assert_close(refine.soft_labels(mask, box, grid.reshape(-1, 2)), target.flatten())


def test_mask_and_refine_losses_average_per_roi():
    # Two ROIs of 2 x 2 and 1 x 2 pixels; at logit 0 every pixel costs log 2 whatever its label.
    logits = [torch.zeros(2, 2), torch.full((1, 2), 100.0)]
    targets = [torch.tensor([[0.0, 1.0], [0.3, 1.0]]), torch.tensor([[1.0, 0.0]])]
    log2 = torch.tensor(2.0).log()
    assert_close(rois.mask_loss(logits, targets), (log2 + 50) / 2)
    pairs = [(logit.flatten(), logit.flatten()) for logit in logits]
    assert_close(refine.refine_loss(pairs, [target.flatten() for target in targets]), (log2 + 50) / 2)


def test_nearest_resize_repeats_and_skips_pixels():
    mask = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert instances.resize_nearest(mask, 4, 2).tolist() == [[1, 2], [1, 2], [4, 5], [4, 5]]
