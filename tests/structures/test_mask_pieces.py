import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from objguided_d2.structures import ragged_masks
from objguided_d2.structures.ragged_masks import RaggedMasks
from tests.structures.masks import from_dense, largest_pieces_of, random_masks, rectangles


@pytest.mark.parametrize("chunk_pixels", [1, ragged_masks.CHUNK_PIXELS])
@given(rectangles, st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_pieces_agree_with_a_plain_loop(chunk_pixels, windows, seed):
    masks = random_masks(windows, seed)
    # A quarter of the pixels: many pieces.
    bits = masks.bits & random_masks(windows, seed + 1).bits
    masks = RaggedMasks(bits, masks.grid, masks.top, masks.left, masks.image_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged_masks, "CHUNK_PIXELS", chunk_pixels)
        kept = masks.largest_pieces()
    for found, mask in zip(np.asarray(kept), np.asarray(masks), strict=True):
        assert any(np.array_equal(found, expected) for expected in largest_pieces_of(mask))


def test_pieces_touch_by_corners_and_not_across_masks():
    dense = torch.zeros(3, 3, 5, dtype=torch.bool)
    dense[0, 0, 0] = dense[0, 1, 1] = dense[0, 2, 2] = dense[0, 0, 4] = True
    dense[1, 0, 1] = dense[1, 2, 2] = dense[1, 2, 3] = True  # The first is below the last pixel of the mask before.
    kept = from_dense(dense).largest_pieces().tensor
    assert kept[0].sum() == 3 and not kept[0, 0, 4]
    assert kept[1].nonzero().tolist() == [[2, 2], [2, 3]] and not kept[2].any()


def test_no_masks_have_no_pieces():
    assert len(random_masks([(0, 0, 2, 2)])[:0].largest_pieces()) == 0
