"""Boxes of true objects in place of detected ones."""

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from benchmarks.true_boxes import TrueBoxes, dataset_boxes, main, with_true_boxes
from objguided_d2.config import get_cfg

DETECTED = [[1.0, 0.0, 9.0, 20.0], [0.0, 2.0, 10.0, 20.0], [31.0, 5.0, 40.0, 12.0], [50.0, 30.0, 59.0, 39.0]]
TRUE = [[0.0, 0.0, 10.0, 20.0], [30.0, 4.0, 42.0, 12.0], [70.0, 0.0, 75.0, 5.0]]


def detections(boxes=DETECTED):
    return Instances(
        (40, 80), pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)), scores=torch.linspace(0.9, 0.1, len(boxes))
    )


def test_the_best_detection_of_each_object_gets_its_box():
    found = with_true_boxes(detections(), Boxes(torch.tensor(TRUE)))
    # The second has more IoU with the first object than the better-scored first; the last belongs to none.
    assert found.pred_boxes.tensor.tolist() == [DETECTED[0], TRUE[0], TRUE[1], DETECTED[3]]
    assert torch.equal(found.scores, detections().scores)


def test_a_detection_gets_the_box_of_the_object_that_it_overlaps_most():
    found = with_true_boxes(
        detections([[0.0, 0.0, 14.0, 10.0]]), Boxes(torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]]))
    )
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 10, 10]]


@pytest.mark.parametrize(("found", "true"), [([], TRUE), (DETECTED, [])])
def test_nothing_detected_or_no_object_changes_nothing(found, true):
    result = with_true_boxes(detections(found), Boxes(torch.tensor(true).reshape(-1, 4)))
    assert result.pred_boxes.tensor.tolist() == found


def test_boxes_of_a_dataset_are_xyxy_without_crowds():
    record = {
        "image_id": 7,
        "annotations": [
            {"bbox": [3, 5, 10, 20], "bbox_mode": 1, "iscrowd": 0},
            {"bbox": [0, 0, 9, 9], "bbox_mode": 1, "iscrowd": 1},
        ],
    }
    DatasetCatalog.register("true_boxes_test", lambda: [record])
    try:
        assert {image_id: boxes.tolist() for image_id, boxes in dataset_boxes("true_boxes_test").items()} == {
            7: [[3, 5, 13, 25]]
        }
    finally:
        DatasetCatalog.remove("true_boxes_test")


def test_masks_are_made_in_boxes_scaled_to_the_network(monkeypatch):
    cfg = get_cfg("dsb2018/objguided_small_R_18")
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg).eval()
    given = []
    heads = model.roi_heads
    monkeypatch.setattr(
        heads,
        "select",
        lambda proposals: Instances(
            proposals.image_size,
            pred_boxes=Boxes(torch.tensor([[18.0, 31, 40, 60]])),
            scores=torch.ones(1),
            pred_classes=torch.zeros(1, dtype=torch.int64),
        ),
    )
    forward = heads.forward_with_given_boxes
    monkeypatch.setattr(
        heads,
        "forward_with_given_boxes",
        lambda features, instances: given.extend(instances) or forward(features, instances),
    )
    inputs = [{"image": torch.zeros(3, 64, 96), "height": 32, "width": 24, "image_id": 7}]
    with torch.no_grad():
        (output,) = TrueBoxes(model, {7: torch.tensor([[5.0, 16, 10, 30]])})(inputs)
    # Twice as high and four times as wide in the network.
    assert given[0].pred_boxes.tensor.tolist() == [[20, 32, 40, 60]]
    assert output["instances"].image_size == (32, 24)


@pytest.mark.parametrize("arguments", [["--model", "no_such_model"], ["--dataset", "no_such_dataset"]])
def test_what_there_is_not_is_refused_in_one_line(capsys, tmp_path, arguments):
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and arguments[1] in error and error.count("\n") == 1
