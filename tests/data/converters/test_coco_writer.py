"""What COCO's own reader makes of the annotations."""

import cv2
import numpy as np
from pycocotools.coco import COCO

from objguided_d2.data.converters.coco_writer import CocoWriter


def test_coco_reads_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((2, 3, 7, 9)) > 0.5
    images = rng.integers(0, 256, (2, 7, 9, 3), np.uint8)
    writer = CocoWriter(tmp_path / "train", ["cell", "wall"])
    for name, image, image_masks, category_id in zip("ab", images, masks, (1, 2)):
        writer.add(name, image, image_masks, category_id)
    writer.write_json(tmp_path / "train.json")

    coco = COCO(tmp_path / "train.json")
    assert coco.cats == {1: {"id": 1, "name": "cell"}, 2: {"id": 2, "name": "wall"}}
    for image_id, image, image_masks in zip((1, 2), images, masks):
        path = tmp_path / "train" / coco.imgs[image_id]["file_name"]
        assert np.array_equal(cv2.imread(str(path))[..., ::-1], image)
        annotations = coco.imgToAnns[image_id]
        assert [a["category_id"] for a in annotations] == [image_id] * 3
        for annotation, mask in zip(annotations, image_masks):
            assert np.array_equal(coco.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            rows, columns = np.nonzero(mask)
            x0, y0 = columns.min(), rows.min()
            assert annotation["bbox"] == [x0, y0, columns.max() + 1 - x0, rows.max() + 1 - y0]
