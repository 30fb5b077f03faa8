"""The plain reference against values computed once with the authors' released program (tests/golden)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.reference import centers, instances, refine, rois
from tests.reference.mask_head_loop import mask_head_loop

GOLDEN = Path(__file__).parent / "golden"


def load(name: str) -> dict[str, torch.Tensor]:
    """Arrays of a golden file; in the names of weights ``__`` stands for the dot."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        numbers = [key for key in arrays if arrays[key].dtype.kind != "U"]
        return {key.replace("__", "."): torch.from_numpy(arrays[key]) for key in numbers}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0, check_dtype=False)


def enlarged_boxes(golden: dict[str, torch.Tensor], factor: float = 1.1) -> torch.Tensor:
    boxes = golden["boxes_cxcywh"]
    return rois.cxcywh_to_xyxy(torch.cat([boxes[:, :2], boxes[:, 2:] * factor], dim=1))


def test_gaussian_radius():
    golden = load("gaussian_radius")
    for (h, w), expected in zip(golden["height_width"].tolist(), golden["radius"].tolist()):
        radius = centers.gaussian_radius_cornernet(h, w, golden["min_overlap"].item())
        assert radius == pytest.approx(expected, abs=1e-5)


def test_center_targets():
    golden = load("center_targets")
    boxes = golden["boxes_cxcywh_stride4"]
    heatmap, wh, offset, index = centers.center_targets(boxes, torch.zeros(len(boxes)).long(), 1, 48, 64)
    assert_close(heatmap, golden["heatmap"])
    assert_close(wh, golden["wh"])
    assert_close(offset, golden["offset"])
    assert index.tolist() == golden["index"].tolist()


def test_focal_loss():
    golden = load("focal_loss")
    assert_close(centers.heatmap_focal_loss(golden["pred"], golden["target"]), golden["loss"])


def test_decode():
    golden = load("decode")
    decoded = centers.decode_centers(
        golden["heatmap"][0], golden["wh"][0], golden["offset"][0], golden["topk"].item(), golden["score_thresh"].item()
    )
    assert_close(decoded, golden["detections_cxcywh_score_class_stride4"])


def test_grid_crop():
    golden = load("grid_crop")
    for k, box in enumerate(enlarged_boxes(golden, golden["expand"].item())):
        expected = golden[f"crop_{k}"]
        assert (rois.count_levels(box, strides=[1]) == 0) == (expected.numel() == 0)
        if expected.numel():
            assert_close(rois.crop_roi(golden["feature"], box, stride=1), expected)


@pytest.mark.parametrize("name, module", [("module_B", rois.module_b), ("module_S", rois.module_s)])
def test_module(name, module):
    golden = load(name)
    assert_close(module(golden["low"], golden["skip"], golden), golden["output"])


def test_mask_ladder():
    golden = load("mask_ladder")
    features = [golden[f"c{i}"] for i in range(1, 6)]
    boxes = enlarged_boxes(golden)
    for k, box in enumerate(boxes):
        assert rois.count_levels(box) == golden[f"levels_{k}"]
        logits, maps = rois.mask_ladder(features, box, rois.submodule(golden, "w"))
        assert_close(logits.sigmoid(), golden[f"mask_{k}"], atol=1e-4)
        assert_close(maps[0], golden[f"e1_{k}"], atol=1e-4)
        assert (len(maps) > 1) == (f"e2_{k}" in golden)
        if len(maps) > 1:
            assert_close(maps[1], golden[f"e2_{k}"], atol=1e-4)


def test_mask_head_loop():
    golden = load("mask_ladder")
    features = {f"c{i}": golden[f"c{i}"] for i in range(1, 6)}
    too_small = torch.tensor([[50.0, 50.0, 51.0, 80.0]])
    boxes = torch.cat([rois.cxcywh_to_xyxy(golden["boxes_cxcywh"]), too_small])
    *results, last = zip(*mask_head_loop(features, boxes, rois.submodule(golden, "w")))
    assert last == (None, None, None)
    for k, (mask, e1, e2) in enumerate(results):
        assert_close(mask, golden[f"mask_{k}"], atol=1e-4)
        assert_close(e1, golden[f"e1_{k}"], atol=1e-4)
        if f"e2_{k}" in golden:
            assert_close(e2, golden[f"e2_{k}"], atol=1e-4)
        else:
            assert e2 is None


def test_uncertain_points():
    golden = load("uncertain_points")
    uncertainty = refine.point_uncertainty(golden["mask"], golden["points_xy01"])
    assert_close(uncertainty, golden["uncertainty"])
    assert refine.most_uncertain(uncertainty, 50).tolist() == golden["top_index"].tolist()


def test_hough_paste():
    golden = load("hough_paste")
    height, width = golden["height"].item(), golden["width"].item()
    for k, box in enumerate(enlarged_boxes(golden, factor=1.0)):
        votes = instances.hough_paste(golden[f"roi_{k}"], box, height, width)
        assert torch.equal(votes > golden["threshold"], golden[f"pasted_{k}"].bool())


def test_mask_nms():
    golden = load("mask_nms")
    kept = instances.mask_nms(golden["masks"].bool(), golden["scores"], golden["iou_thresh"].item())
    assert kept == golden["keep"].tolist()
