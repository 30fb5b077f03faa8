"""Labels written in blocks are those painted whole."""

import numpy as np
import tifffile

from objguided_d2.inference import large_labels
from objguided_d2.inference.objects import SegmentedObjects
from objguided_d2.inference.writers import paint_labels
from objguided_d2.inference.writers.label_image import write_labels


def scattered_objects(count: int = 60, shape: tuple[int, int] = (1300, 700)) -> SegmentedObjects:
    rng = np.random.default_rng(0)
    sides = rng.integers(1, 300, (count, 2))
    corners = np.stack([rng.integers(0, shape[1] - sides[:, 0]), rng.integers(0, shape[0] - sides[:, 1])], 1)
    masks = [rng.random((h, w)) < 0.7 for w, h in sides.tolist()]
    for mask in masks:
        mask[[0, -1]] = mask[:, [0, -1]] = True
    boxes = np.concatenate([corners, corners + sides], 1).astype(np.int64)
    scores = np.linspace(1, 0.5, count, dtype=np.float32)
    return SegmentedObjects(shape, boxes, masks, scores, np.zeros(count, np.int64), pixel_size=(0.5, 0.5))


def test_blocks_hold_the_labels_of_the_whole_image(tmp_path):
    objects = scattered_objects()
    large_labels.write_large_labels(objects, tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), paint_labels(objects))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff and file.pages[0].is_tiled


def test_large_images_alone_are_written_in_blocks():
    assert large_labels.writer_of("labels", (8192, 8192), write_labels) is write_labels
    assert large_labels.writer_of("labels", (8192, 8193), write_labels) is not write_labels
    assert large_labels.writer_of("coco", (9000, 9000), write_labels) is write_labels
