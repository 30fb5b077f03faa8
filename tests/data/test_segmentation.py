"""Every form of a COCO segmentation gives the same run lengths; what is none is an error."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from objguided_d2.data.segmentation import segmentation_to_rle

HEIGHT, WIDTH = 37, 52


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
