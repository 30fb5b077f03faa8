import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks

from objguided_d2.modeling.label_map import (
    IGNORED,
    LabeledObjects,
    drop_small_labels,
    label_boxes,
    label_classes,
    label_map_to_instances,
    label_true_masks,
    mean_over_labels,
)


def instances_of(*rows: list[str]) -> Instances:
    """One object per drawing, in which # is its pixels."""
    masks = torch.tensor([[[pixel == "#" for pixel in row] for row in rows_of_one] for rows_of_one in rows])
    return Instances(tuple(masks.shape[1:]), gt_masks=BitMasks(masks))


def random_label_map(seed: int = 0, size: tuple[int, int] = (23, 31), labels: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, labels + 1, size)


def test_the_later_of_two_masks_has_their_common_pixels_and_padding_is_ignored():
    found = label_true_masks(instances_of(["##.", "##."], [".##", "..."]), None, (3, 4))
    assert found.tolist() == [[1, 2, 2, -1], [1, 1, 0, -1], [-1, -1, -1, -1]]


def test_an_ignored_region_is_ignored_but_for_annotated_objects():
    region = torch.tensor([[True, True, False], [False, True, True]])
    found = label_true_masks(instances_of(["#..", "#.."]), region, (2, 3))
    assert found.tolist() == [[1, IGNORED, 0], [1, IGNORED, IGNORED]]


def test_polygons_are_labeled_as_their_bitmasks():
    polygons = [[np.array([1.0, 1, 6, 1, 6, 4, 1, 4])], [np.array([4.0, 3, 9, 3, 9, 7, 4, 7])]]
    bits = BitMasks.from_polygon_masks(polygons, 8, 10)
    first, second = (
        label_true_masks(Instances((8, 10), gt_masks=masks), None, (8, 10)) for masks in (PolygonMasks(polygons), bits)
    )
    assert torch.equal(first, second) and set(first.unique().tolist()) == {0, 1, 2}


def test_no_object_is_background_alone():
    nothing = Instances((2, 3), gt_masks=BitMasks(torch.zeros(0, 2, 3)))
    assert label_true_masks(nothing, None, (2, 4)).tolist() == [[0, 0, 0, -1]] * 2


def test_classes_of_labels_differ_by_image():
    label_maps = torch.tensor([[[0, 1, 2]], [[1, 0, IGNORED]], [[0, 0, 0]]])
    classes = [torch.tensor([4, 0]), torch.tensor([2]), torch.zeros(0, dtype=torch.int64)]
    assert label_classes(label_maps, classes).tolist() == [[[0, 5, 1]], [[3, 0, -1]], [[0, 0, 0]]]


def test_boxes_are_tight_and_zero_for_a_label_without_a_pixel():
    label_map = torch.tensor([[0, 0, 3, 3, 0], [0, 1, 0, 3, 0], [0, 1, 1, 0, 0]])
    assert label_boxes(label_map, 4).tolist() == [[1, 1, 3, 3], [0, 0, 0, 0], [2, 0, 4, 2], [0, 0, 0, 0]]


def test_small_labels_go_and_the_others_close_ranks():
    label_map = np.array([[1, 0, 4], [2, 2, 4], [2, 7, 4]])
    assert drop_small_labels(label_map, 2).tolist() == [[0, 0, 2], [1, 1, 2], [1, 0, 2]]
    assert drop_small_labels(label_map, 0).max() == 4
    assert drop_small_labels(np.zeros((2, 2), np.int64), 3).tolist() == [[0, 0], [0, 0]]


def test_means_are_those_of_each_label_alone():
    label_map, planes = random_label_map(), np.random.default_rng(1).random((3, 23, 31))
    expected = [[plane[label_map == label].mean() for plane in planes] for label in range(1, 6)]
    np.testing.assert_allclose(mean_over_labels(label_map, planes), expected, rtol=1e-6)
    assert mean_over_labels(np.zeros((2, 2), np.int64), planes[:, :2, :2]).shape == (0, 3)


def test_instances_are_the_labels_best_score_first():
    label_map = random_label_map()
    scores = np.array([0.2, 0.9, 0.1, 0.9, 0.5], np.float32)
    found = label_map_to_instances(LabeledObjects(label_map, scores, np.arange(5)), (23, 31), 4, 0.1)
    assert found.pred_classes.tolist() == [1, 3, 4, 0]  # Label 3 has the score that is left out.
    for label, mask in zip(found.pred_classes + 1, found.pred_masks):
        assert np.array_equal(mask, label_map == int(label))
    assert torch.equal(found.pred_boxes.tensor, BitMasks(found.pred_masks.tensor).get_bounding_boxes().tensor)
    assert label_map_to_instances(
        LabeledObjects(label_map, scores, np.arange(5)), (23, 31), 2
    ).scores.min() == np.float32(0.9)


def test_instances_of_another_size_are_those_of_the_resized_label_map():
    label_map, scores = random_label_map(size=(6, 9)), np.linspace(0.9, 0.5, 5, dtype=np.float32)
    found = label_map_to_instances(LabeledObjects(label_map, scores, np.zeros(5, np.int64)), (15, 12), 10)
    resized = label_map[np.arange(15) * 6 // 15][:, np.arange(12) * 9 // 12]
    assert found.image_size == (15, 12)
    for label, mask in enumerate(found.pred_masks, start=1):
        assert np.array_equal(mask, resized == label)


def test_an_object_that_the_resize_loses_and_a_label_without_a_pixel_are_left_out():
    label_map = np.zeros((8, 8), np.int64)
    label_map[1, 1], label_map[2:6, 2:6] = 1, 3
    objects = LabeledObjects(label_map, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 1, 2]))
    found = label_map_to_instances(objects, (4, 4), 10)
    assert found.pred_classes.tolist() == [2] and found.pred_masks.tensor.sum() == 4


def test_an_empty_label_map_gives_empty_instances_with_all_fields():
    nothing = LabeledObjects(np.zeros((5, 7), np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
    found = label_map_to_instances(nothing, (10, 14), 5)
    assert len(found) == 0 and found.pred_masks.tensor.shape == (0, 10, 14)
    assert isinstance(found.pred_boxes, Boxes) and found.pred_boxes.tensor.shape == (0, 4)
    assert set(found.get_fields()) == {"pred_boxes", "pred_masks", "scores", "pred_classes"}
