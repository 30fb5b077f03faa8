"""Which file is an image, which is a label, and what belongs together, in the trees that people have."""

import numpy as np
import pytest

from objguided_d2.data.converters.labelmaps import convert_labelmaps
from objguided_d2.data.converters.pairing import find_label_file
from objguided_d2.data.source_error import SourceError
from tests.data.sources import labels, masks_of, random_image, read_split, write

CELLS = labels((2, 2, 10, 9), (12, 4, 30, 20))
IMAGE = random_image()


def convert(tmp_path, images="data", labels="data", **kwargs):
    kwargs = {"val_fraction": 0, **kwargs}
    notes = convert_labelmaps(tmp_path / images, tmp_path / labels, tmp_path / "out" / "cells", **kwargs)
    return read_split(tmp_path / "out" / "cells", "train"), notes


def stems(content):
    return sorted(image["file_name"].removesuffix(".png") for image in content["images"])


def labelme():
    square = {"label": "cell", "points": [[2, 2], [10, 2], [10, 9], [2, 9]]}
    return {"imageHeight": 24, "imageWidth": 40, "imageData": None, "shapes": [square]}


# Names of image n, of its labels, and the content of the labels.
ONE_FOLDER = {
    "LabelMe": ("a{}.png", "a{}.json", labelme()),
    "Cellpose": ("a{}.tif", "a{}_masks.tif", CELLS),
    "Cellpose command line": ("a{}.tif", "a{}_cp_masks.png", CELLS),
    "Cellpose dataset": ("{:03d}_img.png", "{:03d}_masks.png", CELLS),
    "folders": ("images/a{}.png", "labels/a{}.png", CELLS),
    "folders of masks": ("imgs/a{}.png", "masks/a{}.tif", CELLS),
    "folder per image": ("a{}/image.png", "a{}/image_mask.png", CELLS),
    "Kaggle": ("a{}/images/a{}.png", "a{}/masks/1.png", (CELLS == 1).astype(np.uint8)),
    "NuInsSeg": ("human liver/tissue images/a{}.png", "human liver/label masks modify/a{}.tif", CELLS),
}


@pytest.mark.parametrize("kind", ONE_FOLDER)
def test_images_and_labels_in_one_source(tmp_path, kind):
    image_name, label_name, label = ONE_FOLDER[kind]
    for number in range(4):
        write(tmp_path / "data" / image_name.format(number, number), IMAGE)
        write(tmp_path / "data" / label_name.format(number, number), label)
    if kind == "NuInsSeg":
        for folder in ("label masks", "mask binary", "distance maps", "vague areas/mask binary"):
            write(tmp_path / "data" / "human liver" / folder / "a0.png", CELLS)
    content, notes = convert(tmp_path)
    assert len(content["images"]) == 4 and not notes.num_left_out
    assert len(content["annotations"]) == 4 * (2 if label is CELLS else 1)
    for image in content["images"]:
        assert np.array_equal(masks_of(content, image["file_name"].removesuffix(".png"))[0], CELLS == 1)


def test_label_files_among_the_images_are_no_images(tmp_path):
    for number in range(3):
        write(tmp_path / "images" / f"a{number}.png", IMAGE)
        write(tmp_path / "images" / f"a{number}_masks.png", CELLS)
        write(tmp_path / "labels" / f"a{number}.png", CELLS)
    content, notes = convert(tmp_path, "images", "labels")
    assert stems(content) == ["a0", "a1", "a2"]
    assert "label file or by-product among the images, not taken as an image: a0_masks.png" in notes.full_text()


def test_copy_of_the_image_among_the_labels_is_no_label(tmp_path):
    for number in range(3):
        write(tmp_path / "images" / f"a{number}.png", IMAGE)
        write(tmp_path / "labels" / f"a{number}.png", IMAGE)
        write(tmp_path / "labels" / f"a{number}.json", labelme())
    assert len(convert(tmp_path, "images", "labels")[0]["annotations"]) == 3


def test_name_with_an_ending_beats_the_bare_name(tmp_path):
    for number in range(3):
        write(tmp_path / "images" / f"a{number}.png", IMAGE)
        write(tmp_path / "labels" / f"a{number}.png", random_image(24, 40))
        write(tmp_path / "labels" / f"a{number}_masks.png", CELLS)
    assert len(convert(tmp_path, "images", "labels")[0]["annotations"]) == 6
    files = {"a": "a.png", "a_masks": "a_masks.png", "b": "b.png"}
    assert [find_label_file(stem, files) for stem in "abc"] == ["a_masks.png", "b.png", None]


def test_two_label_files_cost_the_image(tmp_path):
    for number in range(3):
        write(tmp_path / "images" / f"a{number}.png", IMAGE)
        write(tmp_path / "labels" / f"a{number}_masks.png", CELLS)
    write(tmp_path / "labels" / "a0_labels.png", CELLS)
    write(tmp_path / "labels" / "a1.json", labelme())
    content, notes = convert(tmp_path, "images", "labels")
    assert stems(content) == ["a2"] and notes.num_left_out == 2
    assert "a0.png has several label files, a0_labels.png and a0_masks.png; keep one" in notes.full_text()
    assert "a1.png has labels of several kinds, a1.json and a1_masks.png; keep one kind" in notes.full_text()


def test_images_of_one_name_in_several_folders_meet_the_labels_of_their_folder(tmp_path):
    for folder, size in (("x", 1), ("y", 2)):
        for number in range(2):
            write(tmp_path / "images" / folder / f"{number}.png", IMAGE)
            write(tmp_path / "labels" / folder / f"{number}.png", np.where(size >= CELLS, CELLS, 0))
    content, notes = convert(tmp_path, "images", "labels")
    assert stems(content) == ["x_0", "x_1", "y_0", "y_1"] and not notes.num_left_out
    assert [len(masks_of(content, stem)) for stem in ("x_0", "y_0")] == [1, 2]


def test_one_name_with_two_endings_is_left_out(tmp_path):
    for number in range(3):
        write(tmp_path / "images" / f"a{number}.png", IMAGE)
        write(tmp_path / "labels" / f"a{number}.png", CELLS)
    write(tmp_path / "images" / "a0.tif", IMAGE)
    content, notes = convert(tmp_path, "images", "labels")
    assert stems(content) == ["a1", "a2"] and "a0.tif: another image has its name" in notes.full_text()


@pytest.mark.parametrize("layout", ["{split}/{role}/{n}.png", "{role}/{split}/{n}.png"])
def test_given_folders_are_the_splits(tmp_path, layout):
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for n in range(count):
            write(tmp_path / "data" / layout.format(role="images", split=split, n=n), IMAGE)
            write(tmp_path / "data" / layout.format(role="labels", split=split, n=n), CELLS)
    convert(tmp_path, val_fraction=None)
    sizes = {split: len(read_split(tmp_path / "out" / "cells", split)["images"]) for split in ("train", "val", "test")}
    assert sizes == {"train": 3, "val": 2, "test": 1}
    assert stems(read_split(tmp_path / "out" / "cells", "val")) == ["valid_0", "valid_1"]
    convert(tmp_path, val_fraction=0)
    assert len(read_split(tmp_path / "out" / "cells", "train")["images"]) == 6


def test_coco_file_in_each_split_folder(tmp_path):
    square = [[2.0, 2.0, 10.0, 2.0, 10.0, 9.0, 2.0, 9.0]]
    for split in ("train", "valid"):
        for n in range(2):
            write(tmp_path / "data" / split / f"{n}.png", IMAGE)
        images = [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 40} for n in range(2)]
        annotations = [{"id": n, "image_id": n, "category_id": 1, "segmentation": square} for n in range(2)]
        categories = [
            {"id": 0, "name": "cells", "supercategory": "none"},
            {"id": 1, "name": split, "supercategory": "cells"},
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write(tmp_path / "data" / split / "_annotations.coco.json", content)
    convert(tmp_path, val_fraction=None)
    for split, category in (("train", 1), ("val", 2)):
        content = read_split(tmp_path / "out" / "cells", split)
        assert [c["name"] for c in content["categories"]] == ["train", "valid"]
        assert [a["category_id"] for a in content["annotations"]] == [category] * 2


def test_crowds_of_coco_stay_regions_to_ignore(tmp_path):
    for n in range(2):
        write(tmp_path / "images" / f"{n}.png", IMAGE)
    square = [[2.0, 2.0, 10.0, 2.0, 10.0, 9.0, 2.0, 9.0]]
    annotations = [{"id": n, "image_id": 0, "category_id": 1, "iscrowd": n, "segmentation": square} for n in range(2)]
    images = [{"id": n, "file_name": f"images\\{n}.png"} for n in range(2)]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    write(tmp_path / "x.json", content)
    found, _ = convert(tmp_path, "images", "x.json")
    assert [a["iscrowd"] for a in found["annotations"]] == [0, 1]


def test_folder_of_labels_inside_that_of_the_images(tmp_path):
    for n in range(3):
        write(tmp_path / "data" / f"{n}.png", IMAGE)
        write(tmp_path / "data" / "truth" / f"{n}.png", CELLS)
    content, notes = convert(tmp_path, "data", "data/truth")
    assert stems(content) == ["0", "1", "2"] and not notes.num_left_out


def test_microscope_files_are_named_where_no_image_can_be_read(tmp_path):
    write(tmp_path / "images" / "a.czi", b"x")
    write(tmp_path / "labels" / "a.png", CELLS)
    with pytest.raises(SourceError, match=".czi files are not read: open it in Fiji and save planes as TIFF"):
        convert(tmp_path, "images", "labels")


def test_labels_never_meet_the_image_of_another_folder(tmp_path):
    for name in ("day1/1", "day1/2", "day1/3", "day2/4"):
        write(tmp_path / "images" / f"{name}.png", IMAGE)
    for name in ("day1/1", "day1/2", "day2/2", "day2/3", "day3/4"):
        write(tmp_path / "labels" / f"{name}.png", CELLS)
    content, notes = convert(tmp_path, "images", "labels")
    assert stems(content) == ["1", "2"] and [c["name"] for c in content["categories"]] == ["object"]
    for name in ("day2/2", "day2/3", "day3/4"):
        assert f"labels without an image, left out: {name}.png" in notes.full_text()
    image = {"height": 24, "width": 40}
    names = ["day1/1.png", "day2/1.png", "day2/3.png"]
    images = [{"id": n, "file_name": name, **image} for n, name in enumerate(names)]
    square = [[2.0, 2.0, 10.0, 2.0, 10.0, 9.0, 2.0, 9.0]]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "segmentation": square} for n in range(3)]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cell"}]}
    write(tmp_path / "x.json", coco)
    content, notes = convert(tmp_path, "images", "x.json")
    assert stems(content) == ["1"] and "without an image, left out: x.json: image day2/3.png" in notes.full_text()


def test_names_behind_their_folders_stay_apart(tmp_path):
    for name in ("day1/1", "day2/1", "day1_1"):
        write(tmp_path / "images" / f"{name}.png", IMAGE)
        write(tmp_path / "labels" / f"{name}.png", CELLS)
    assert stems(convert(tmp_path, "images", "labels")[0]) == ["day1_1", "day1__1", "day2__1"]


def test_label_image_in_a_folder_named_as_its_image(tmp_path):
    write(tmp_path / "images" / "A01.png", IMAGE)
    write(tmp_path / "images" / "A02.tif.png", IMAGE)
    write(tmp_path / "labels" / "A01" / "A01_labels.png", CELLS)
    write(tmp_path / "labels" / "A02.tif.png", CELLS)
    content, notes = convert(tmp_path, "images", "labels")
    assert stems(content) == ["A01", "A02.tif"] and len(content["annotations"]) == 4 and not notes.num_left_out


def test_label_image_beside_the_folders_of_classes_is_no_class(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / "images" / f"{name}.png", IMAGE)
        for folder in ("nuclei", "bodies") if name == "a" else (".",) if name == "b" else (".", "nuclei"):
            write(tmp_path / "labels" / folder / f"{name}.png", CELLS)
    content, notes = convert(tmp_path, "images", "labels")
    assert stems(content) == ["a"] and [c["name"] for c in content["categories"]] == ["bodies", "nuclei"]
    assert "b.png is in no folder of a class" in notes.full_text()
