import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import transforms as T

from objguided_d2.data.crowd_region import merge_crowds, transform_region
from objguided_d2.data.transforms import SquareCropTransform, TransposeTransform
from tests.data.sources import labels

# Both reach into the lower right quarter, neither is symmetric.
CROWDS = labels((0, 0, 40, 3)) > 0, labels((25, 2, 33, 20)) > 0
OBJECTS = labels((30, 0, 36, 8)) > 0, labels((1, 10, 5, 15)) > 0


def encode(masks):
    return [mask_util.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]


def test_union_of_crowds_without_objects():
    either = CROWDS[0] | CROWDS[1]
    region = merge_crowds(encode(CROWDS), encode(OBJECTS))
    assert region.dtype == np.uint8 and region.flags.c_contiguous
    assert np.array_equal(region, either & ~OBJECTS[0])
    assert np.array_equal(merge_crowds(encode(CROWDS), []), either)
    assert not merge_crowds(encode(OBJECTS), encode(OBJECTS)).any()


@pytest.mark.parametrize(
    "transform, expected",
    [
        (T.HFlipTransform(40), lambda m: m[:, ::-1]),
        (T.TransformList([T.VFlipTransform(24), TransposeTransform()]), lambda m: m[::-1].T),
        (T.CropTransform(20, 1, 15, 12), lambda m: m[1:13, 20:35]),
        (T.ResizeTransform(24, 40, 48, 80), lambda m: m.repeat(2, 0).repeat(2, 1)),
        # 5 columns left of the image and 15 rows under it, every pixel twice.
        (
            SquareCropTransform(-5, 9, 30, 60),
            lambda m: np.pad(m[9:, :25], ((0, 15), (5, 0))).repeat(2, 0).repeat(2, 1),
        ),
        (T.PadTransform(2, 3, 4, 5, seg_pad_value=255), lambda m: np.pad(m, ((3, 5), (2, 4)))),
    ],
    ids=["flip", "turn", "crop", "enlarge", "beyond", "pad"],
)
def test_goes_where_the_pixels_go(transform, expected):
    mask = (CROWDS[0] | CROWDS[1]) & ~OBJECTS[0]
    got = transform_region(mask.astype(np.uint8), transform)
    assert got.dtype == bool and got.flags.c_contiguous
    assert np.array_equal(got, expected(mask))
