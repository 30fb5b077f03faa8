"""Limits of objects per image; that they grow with the image is tested with the predictor."""

import math

import pytest
import torch

from objguided_d2.inference.object_limits import may_hold_more

STRONG, WEAK = 0.5, 0.1


@pytest.mark.parametrize(
    ("scores", "limit", "more"),
    [
        ([STRONG] * 8, 8, True),
        ([STRONG] * 8, 9, False),
        ([STRONG] * 8, math.inf, False),
        # Noise: centers by the dozen, of which few and only the best become objects.
        ([STRONG] * 4 + [WEAK] * 4, 8, False),
        ([STRONG] * 4 + [WEAK] * 3 + [STRONG], 8, True),
        ([STRONG] + [WEAK] * 3 + [STRONG] + [WEAK] * 3, 8, True),
        ([STRONG], 1, True),
        ([WEAK], 1, False),
        ([], 1, False),
    ],
)
def test_more_objects_are_expected_where_weak_centers_make_some(scores, limit, more):
    assert may_hold_more(torch.tensor(scores), limit, score_threshold=0.3) == more
