import itertools

import numpy as np
import pytest
import torch

from objguided_d2.modeling.keypoint_graph.keypoints import OTHERS, to_boxes, to_keypoints
from tests.reference import keypoint_graph as plain

BOX = torch.tensor([[3.0, 10.0, 24.0, 16.0]])
# x and y of top left, top right, bottom left, bottom right and center.
KEYPOINTS = [[3.5, 10.5], [23.5, 10.5], [3.5, 15.5], [23.5, 15.5], [13.5, 13.0]]


def test_corners_are_the_centers_of_the_corner_pixels():
    torch.testing.assert_close(to_keypoints(BOX), torch.tensor([KEYPOINTS]))
    np.testing.assert_allclose(plain.keypoints_of_box(*BOX[0].tolist(), stride=1) + 0.5, KEYPOINTS)


def test_edges_lead_to_the_other_kinds():
    assert OTHERS[0] == (1, 2, 3, 4) and OTHERS[2] == (0, 1, 3, 4)


@pytest.mark.parametrize(
    "kinds, is_box",
    [
        ((0, 1, 2, 3, 4), True),
        ((0, 1, 2), True),
        ((0, 3), True),
        ((1, 2), True),
        ((0, 1, 4), True),
        ((1, 3, 4), True),
        ((0, 1), False),
        ((0, 4), False),
        ((4,), False),
    ],
)
def test_the_box_comes_from_what_is_there(kinds, is_box):
    present = np.isin(np.arange(5), kinds)[None]
    keypoints = np.where(present[..., None], KEYPOINTS, 100.0)  # What is absent must not matter.
    boxes, valid = to_boxes(keypoints, present)
    assert valid.tolist() == [is_box]
    if is_box:
        np.testing.assert_allclose(boxes, BOX)


def test_boxes_equal_those_of_the_cases_one_by_one():
    rng = np.random.default_rng(0)
    present = np.array(list(itertools.product([False, True], repeat=5)) * 6)
    keypoints = KEYPOINTS + rng.normal(0, 4, (len(present), 5, 2))
    boxes, valid = to_boxes(keypoints, present)
    for points, there, box, is_box in zip(keypoints, present, boxes, valid):
        expected = plain.box({kind: tuple(points[kind]) for kind in np.flatnonzero(there)})
        assert is_box == (expected is not None)
        if is_box:
            np.testing.assert_allclose(box, expected)
    assert 20 < valid.sum() < len(valid)
