import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objguided_d2.evaluation.label_map import count_overlaps, paint_label_map
from tests.evaluation.rectangles import rectangle_mask

SIZE = (20, 30)


def encode(mask):
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def rectangles(boxes):
    return [rectangle_mask(box, *SIZE) for box in boxes]


boxes = st.lists(
    st.tuples(st.integers(0, 24), st.integers(0, 14), st.integers(1, 6), st.integers(1, 6)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    max_size=8,
)


def test_pixel_goes_to_the_better_score_and_of_equals_to_the_earlier():
    rles = [encode(mask) for mask in rectangles([(0, 0, 10, 10), (5, 0, 15, 10), (8, 0, 20, 10)])]
    label_map = paint_label_map(rles, np.array([0.5, 0.9, 0.5]), SIZE)
    assert label_map.dtype == np.int32 and label_map.shape == SIZE
    assert label_map[0].tolist() == [1] * 5 + [2] * 10 + [3] * 5 + [0] * 10
    assert paint_label_map(rles[::2], np.array([0.5, 0.5]), SIZE)[0, :10].tolist() == [1] * 10


def test_covered_instance_has_no_pixel():
    rles = [encode(mask) for mask in rectangles([(2, 2, 4, 4), (0, 0, 10, 10)])]
    assert set(np.unique(paint_label_map(rles, np.array([0.1, 0.9]), SIZE))) == {0, 2}


def test_nothing_to_paint():
    assert not paint_label_map([], np.zeros(0), SIZE).any()


@given(boxes, boxes, st.randoms(use_true_random=False))
def test_overlaps_equal_those_of_full_masks(predicted_boxes, true_boxes, random):
    scores = np.array([random.random() for _ in predicted_boxes])
    rles = [encode(mask) for mask in rectangles(predicted_boxes)]
    true = rectangles(true_boxes)
    label_map = paint_label_map(rles, scores, SIZE)
    overlaps = count_overlaps(label_map, len(rles), [encode(mask) for mask in true])
    for p in range(len(rles)):
        mask = label_map == p + 1
        assert overlaps.predicted_area[p] == mask.sum()
        for g, true_mask in enumerate(true):
            both, either = (mask & true_mask).sum(), (mask | true_mask).sum()
            assert overlaps.intersection[p, g] == both
            assert overlaps.iou[p, g] == pytest.approx(both / either)
            assert overlaps.dice[p, g] == pytest.approx(2 * both / (mask.sum() + true_mask.sum()))
    assert overlaps.true_area.tolist() == [mask.sum() for mask in true]
    assert overlaps.iou.shape == (len(rles), len(true))
