"""Suppression among neighbors equals that among all pairs."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objguided_d2.structures.mask_nms import mask_nms

from objguided_d2.inference import suppression
from objguided_d2.inference.suppression import meeting_pairs, suppress
from objguided_d2.structures.ragged_grid import RaggedGrid
from objguided_d2.structures.ragged_masks import RaggedMasks


def random_boxes(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    side = rng.integers(1, 40, (count, 2))
    side[rng.random(count) < 0.05] = size // 2
    corner = rng.integers(0, size - 20, (count, 2))
    return np.concatenate([corner, np.minimum(corner + side, size)], 1).astype(np.int64)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(0, 60), st.sampled_from([64, 300, 900]), st.sampled_from([3, 50, 2**20]))
def test_meeting_pairs_are_all_pairs_of_boxes_that_share_a_pixel_once_each(seed, count, size, chunk):
    boxes = random_boxes(np.random.default_rng(seed), count, size)
    pairs = []
    whole, suppression._CHUNK = suppression._CHUNK, chunk
    try:
        for first, second in meeting_pairs(boxes):
            pairs += [tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist())]
    finally:
        suppression._CHUNK = whole
    expected = [
        (i, j)
        for i in range(count)
        for j in range(i + 1, count)
        if (np.minimum(boxes[i, 2:], boxes[j, 2:]) > np.maximum(boxes[i, :2], boxes[j, :2])).all()
    ]
    assert sorted(pairs) == expected


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 80), st.sampled_from([0.0, 0.1, 0.3, 0.6]))
def test_suppression_keeps_what_suppression_by_all_pairs_keeps(seed, count, threshold):
    rng = np.random.default_rng(seed)
    boxes = torch.from_numpy(random_boxes(rng, count, 200))
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    bits = torch.from_numpy(rng.random(int((widths * heights).sum())) < 0.8)
    grid = RaggedGrid(heights, widths, torch.device("cpu"))
    masks = RaggedMasks(bits, grid, boxes[:, 1].contiguous(), boxes[:, 0].contiguous(), (200, 200))
    order = torch.from_numpy(rng.permutation(count))[: max(1, count - 5)]
    groups = torch.from_numpy(rng.integers(0, 2, count))

    kept = suppress(masks, order, threshold, groups)

    assert kept.tolist() == mask_nms(masks, order, threshold, groups).tolist()
