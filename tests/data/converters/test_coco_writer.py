"""Publishing of converted files, and what COCO's own reader makes of the annotations."""

import os

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from objguided_d2.data.converters.coco_writer import CocoWriter, staged_folder


def test_files_are_published_images_first_and_others_stay(tmp_path, monkeypatch):
    target = tmp_path / "set"
    (target / "train").mkdir(parents=True)
    (target / "train" / "own.txt").write_text("mine")
    (target / "train" / "a.png").write_text("old")
    order = []
    monkeypatch.setattr(os, "replace", lambda a, b, replace=os.replace: (order.append(b.name), replace(a, b)))
    with staged_folder(target) as staging:
        for name in ("annotations/x.json", "train/a.png", "val/b.png"):
            (staging / name).parent.mkdir(exist_ok=True)
            (staging / name).write_text("new")
        assert (target / "train" / "a.png").read_text() == "old"
    assert order == ["a.png", "b.png", "x.json"]
    assert (target / "train" / "a.png").read_text() == "new"
    assert (target / "train" / "own.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_published_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "set") as staging:
        (staging / "a.png").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


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
