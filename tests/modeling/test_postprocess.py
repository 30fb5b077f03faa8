"""From ROI masks to instances, on rectangles whose place in the output is known."""

import torch
from detectron2.structures import Boxes, Instances

from objguided_d2.modeling.postprocess import InstancePostprocessor
from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.ragged_masks import RaggedROIMasks


def make_instances(boxes: list[list[int]], scores: list[float], classes: list[int], probability: list[float]):
    """Instances of an input of 20 x 40 pixels, each with one probability all over its box."""
    boxes = torch.tensor(boxes, dtype=torch.float32)
    sides = (boxes[:, 2:] - boxes[:, :2]).long()
    grid = RaggedGrid(sides[:, 1].contiguous(), sides[:, 0].contiguous(), torch.device("cpu"))
    probabilities = torch.tensor(probability)[grid.pixels.roi]
    return Instances(
        (20, 40),
        pred_boxes=Boxes(boxes),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes),
        pred_masks=RaggedROIMasks(probabilities, grid, boxes, "centers", (20, 40)),
    )


def postprocessor(**settings) -> InstancePostprocessor:
    return InstancePostprocessor(
        **({"mask_thresh": 0.5, "paste_mode": "bilinear", "boxes_from_masks": False, "mask_nms_thresh": 1.0} | settings)
    )


def test_boxes_are_scaled_to_the_output_and_clipped_there():
    # Rows become 3 and columns 2 output pixels; the second box reaches beyond the image.
    instances = make_instances([[5, 3, 29, 15], [30, 10, 44, 24]], [0.9, 0.8], [0, 0], [1.0, 1.0])
    result = postprocessor()(instances, 60, 80)
    assert result.image_size == (60, 80)
    assert result.pred_boxes.tensor.tolist() == [[10, 9, 58, 45], [60, 30, 80, 60]]
    assert result.pred_masks.get_bounding_boxes().tensor.tolist() == result.pred_boxes.tensor.tolist()
    assert instances.pred_boxes.tensor[0].tolist() == [5, 3, 29, 15]


def test_instances_without_a_pixel_are_dropped_and_the_best_comes_first():
    boxes = [[2, 2, 10, 8], [12, 2, 20, 8], [22, 2, 30, 8]]
    instances = make_instances(boxes, [0.3, 0.9, 0.6], [0, 1, 2], [1.0, 0.4, 1.0])
    for boxes_from_masks in (False, True):
        result = postprocessor(boxes_from_masks=boxes_from_masks)(instances, 20, 40)
        assert result.pred_classes.tolist() == [2, 0]
        assert result.pred_boxes.tensor.tolist() == [boxes[2], boxes[0]]


def test_suppression_is_within_a_class_and_keeps_the_better():
    # The second shares 48 of 56 pixels with the first; the third is the second in another class.
    boxes = [[2, 2, 10, 8], [2, 2, 10, 9], [2, 2, 10, 9]]
    instances = make_instances(boxes, [0.7, 0.9, 0.8], [0, 0, 1], [1.0, 1.0, 1.0])
    for threshold, expected in ((0.8, [0.9, 0.8]), (0.9, [0.9, 0.8, 0.7])):
        result = postprocessor(mask_nms_thresh=threshold)(instances, 20, 40)
        torch.testing.assert_close(result.scores, torch.tensor(expected))


def test_masks_of_the_input_have_its_size():
    instances = make_instances([[5, 3, 29, 15]], [0.9], [0], [1.0])
    result = postprocessor(keep_input_masks=True)(instances, 60, 80)
    assert result.input_masks.image_size == (20, 40)
    assert result.input_masks.get_bounding_boxes().tensor.tolist() == [[5, 3, 29, 15]]
    assert result.pred_masks.get_bounding_boxes().tensor.tolist() == [[10, 9, 58, 45]]
