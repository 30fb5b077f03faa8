import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from objguided_d2.structures.run_lengths import encode_runs


def runs_of(masks):
    """Runs of (R, H, W) masks, found one pixel after the other."""
    rows = []
    for owner, mask in enumerate(masks):
        flat = [False, *mask.ravel(order="F").tolist(), False]
        begin = [i for i in range(len(flat) - 1) if not flat[i] and flat[i + 1]]
        end = [i for i in range(len(flat) - 1) if flat[i] and not flat[i + 1]]
        rows += [(b, e, owner) for b, e in zip(begin, end)]
    return np.array(rows, dtype=np.int64).reshape(-1, 3).T


def assert_same_as_pycocotools(masks):
    rles = encode_runs(*runs_of(masks), len(masks), masks.shape[1:])
    for rle, mask in zip(rles, masks, strict=True):
        expected = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert rle == {"size": expected["size"], "counts": expected["counts"].decode("ascii")}


@settings(deadline=None, max_examples=100)
@given(st.tuples(st.integers(0, 4), st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(bool, shape)))
def test_any_masks(masks):
    assert_same_as_pycocotools(masks)


@pytest.mark.parametrize("size", [(700, 900), (3000, 2)])
def test_long_runs_take_several_characters(size):
    rng = np.random.default_rng(0)
    masks = np.zeros((5, *size), bool)
    masks[1] = True
    masks[2, : size[0] // 2] = True
    masks[3, 5:600, 1:] = True
    masks[4] = rng.random(size) > 0.999
    assert_same_as_pycocotools(masks)


def test_empty_and_full():
    assert_same_as_pycocotools(np.stack([np.zeros((4, 3), bool), np.ones((4, 3), bool), np.zeros((4, 3), bool)]))
