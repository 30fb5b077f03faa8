import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from objguided_d2.report.error_kinds import KINDS, classify
from tests.report.label_maps import compared_label_maps


def kinds(predicted, true, **others):
    """Names of the kinds of predictions and objects, from label maps."""
    found = classify(compared_label_maps(predicted, true, **others))
    return [KINDS[k] if k >= 0 else None for k in found.predicted], [KINDS[k] for k in found.true], found.count()


def boxes(*corners):
    label_map = np.zeros((40, 80), np.int32)
    for label, (x1, y1, x2, y2) in enumerate(corners, start=1):
        label_map[y1:y2, x1:x2] = label
    return label_map


def test_each_kind_by_itself():
    true = boxes((0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10))
    predicted = boxes((1, 0, 10, 10), (20, 0, 26, 10), (60, 0, 70, 10))
    p, g, count = kinds(predicted, true)
    assert p == ["correct", "boundary", "spurious"] and g == ["correct", "boundary", "missed"]
    assert count == {"correct": 1, "boundary": 1, "merged": 0, "split": 0, "missed": 1, "spurious": 1}


def test_merged_objects_also_where_one_of_them_would_pass():
    true = boxes((0, 0, 20, 10), (20, 0, 26, 10))
    assert kinds(boxes((0, 0, 26, 10)), true)[:2] == (["merged"], ["merged", "merged"])


def test_split_object():
    p, g, _ = kinds(boxes((0, 0, 14, 10), (14, 0, 20, 10), (40, 0, 50, 10)), boxes((0, 0, 20, 10), (40, 0, 50, 10)))
    assert p == ["split", "split", "correct"] and g == ["split", "correct"]


def test_covered_prediction_has_no_kind():
    predicted = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    predicted[predicted == 1] = 0
    assert kinds(predicted, boxes((20, 0, 30, 10)))[0] == [None, "correct"]


def test_an_object_of_another_class_is_none():
    true = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    p, g, _ = kinds(true, true, predicted_classes=[0, 0], true_classes=[0, 1])
    assert p == ["correct", "spurious"] and g == ["correct", "missed"]
    # One prediction over two objects merges them only if both are of its class.
    p, g, _ = kinds(boxes((0, 0, 30, 10)), boxes((0, 0, 24, 10), (24, 0, 30, 10)), true_classes=[0, 1])
    assert p == ["correct"] and g == ["correct", "missed"]


def test_prediction_in_a_crowd_region_has_no_kind_unless_it_has_an_object():
    true = boxes((0, 0, 10, 10))
    crowd = boxes((0, 0, 80, 10)) > 0
    assert kinds(boxes((0, 0, 10, 10), (20, 0, 30, 10), (20, 20, 30, 30)), true, crowd=crowd) == (
        ["correct", None, "spurious"],
        ["correct"],
        {"correct": 1, "boundary": 0, "merged": 0, "split": 0, "missed": 0, "spurious": 1},
    )


@given(arrays(np.int32, (6, 8), elements=st.integers(0, 4)))
def test_perfect_answer_is_all_correct(label_map):
    labels, dense = np.unique(label_map, return_inverse=True)
    dense = dense.reshape(label_map.shape) + (labels[0] > 0)
    p, g, _ = kinds(dense, dense)
    assert set(p) | set(g) <= {"correct"}
