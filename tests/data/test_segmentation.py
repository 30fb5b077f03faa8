"""Every form of a COCO segmentation: run lengths and polygons against pycocotools, and what would make it fail."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from objguided_d2.data.segmentation import NoMaskError, checked_runs, polygon_rings, segmentation_to_rle
from objguided_d2.utils.rle import decode_masks

HEIGHT, WIDTH = 37, 52
masks = npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))


@given(masks)
@settings(max_examples=60, deadline=None)
def test_runs_of_coco_text_are_those_of_the_mask(mask):
    height, width = mask.shape
    rle = mask_util.encode(np.asfortranarray(mask))
    runs = checked_runs(rle, height, width)
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.ravel(order="F"))
    text = {"size": [height, width], "counts": rle["counts"].decode()}
    assert checked_runs(text, height, width) == runs
    for segmentation in (text, {"size": [height, width], "counts": runs}, mask):
        assert np.array_equal(decode_masks([segmentation_to_rle(segmentation, height, width)], height, width)[0], mask)


def test_long_runs():
    mask = np.ones((5000, 7000), np.uint8, order="F")
    mask[2000, 3] = 0
    runs = checked_runs(mask_util.encode(mask), 5000, 7000)
    assert runs == [0, 3 * 5000 + 2000, 1, 35_000_000 - 3 * 5000 - 2001]


# pycocotools ends the process, or reads memory that is not its own, on some of these.
BAD_COUNTS = [
    "",
    "3",
    "zzz",
    "\xe9",
    "340000",
    b"\xff\xff",
    "_" * 40,
    [],
    [3, 4],
    [3, 400],
    [-3, 28],
    [3.5, 21.5],
    ["a"],
    5,
    None,
]


@pytest.mark.parametrize("counts", BAD_COUNTS)
def test_runs_that_do_not_fill_the_mask_never_reach_pycocotools(counts):
    with pytest.raises(ValueError, match="its RLE|its runs"):
        segmentation_to_rle({"size": [5, 5], "counts": counts}, 5, 5)


@pytest.mark.parametrize("size", [None, [5], [5, 5, 1], "55", [5, 6]])
def test_mask_of_another_size(size):
    with pytest.raises(ValueError, match="in an image of"):
        segmentation_to_rle({"size": size, "counts": [25]}, 5, 5)


def test_four_numbers_are_no_box():
    with pytest.raises(NoMaskError):
        segmentation_to_rle([[5.0, 5.0, 20.0, 20.0]], 40, 40)


@pytest.mark.parametrize(
    "segmentation", [3, "polygon", None, {"counts": []}, [["a", 1, 2, 3, 4, 5]], [{}], [[True] * 6]]
)
def test_what_is_no_segmentation(segmentation):
    with pytest.raises(ValueError):
        segmentation_to_rle(segmentation, 5, 5)


@given(st.lists(st.lists(st.floats(-1e308, 1e308) | st.integers(-50, 50), max_size=9), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_polygon_is_filled_or_refused(segmentation):
    try:
        rle = segmentation_to_rle(segmentation, 20, 30)
    except ValueError:
        with pytest.raises(ValueError):
            polygon_rings(segmentation)
    else:
        assert mask_util.decode(rle).shape == (20, 30)


def test_every_kind_of_segmentation_gives_the_same_rle():
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[4:9, 10:30] = True
    mask[20:22, 10:13] = True
    polygons = [[10, 4, 30, 4, 30, 9, 10, 9], [10, 20, 13, 20, 13, 22, 10, 22]]
    compressed = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    text = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    uncompressed = {"size": [HEIGHT, WIDTH], "counts": np.diff([0, *changes, mask.size]).tolist()}
    for segmentation in (polygons, compressed, text, uncompressed, mask, mask.astype(np.uint8)):
        assert segmentation_to_rle(segmentation, HEIGHT, WIDTH) == text


@pytest.mark.parametrize("segmentation", [np.ones((3, 4)), {"size": [3, 4], "counts": [12]}, "text"])
def test_wrong_size_and_type_are_errors(segmentation):
    with pytest.raises(ValueError, match="height x width|not polygons"):
        segmentation_to_rle(segmentation, 4, 3)
