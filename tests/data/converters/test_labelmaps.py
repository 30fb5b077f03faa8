import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from objguided_d2.data.converters.conversion import ConversionNotes
from objguided_d2.data.converters.labelmaps import convert_labelmaps
from objguided_d2.data.converters.pairing import pair_files
from objguided_d2.data.source_error import SourceError
from tests.data.sources import labels, masks_of, random_image, read_split, write

CELLS = labels((2, 2, 10, 9), (12, 4, 30, 20))


def image_folder(tmp_path, count=4, **kwargs):
    for number in range(count):
        write(tmp_path / "images" / f"img{number}.png", random_image(**kwargs))
    return tmp_path / "images"


def convert(tmp_path, labels_path=None, **kwargs):
    output = tmp_path / "out" / "cells"
    convert_labelmaps(
        tmp_path / "images", labels_path or tmp_path / "labels", output, **{"val_fraction": 0.25, **kwargs}
    )
    return {split: read_split(output, split) for split in ("train", "val")}


def stems(content):
    return [image["file_name"].removesuffix(".png") for image in content["images"]]


@pytest.mark.parametrize(
    "name", ["{}.png", "{}.tif", "{}_label.png", "{}_masks.tif", "{}_cp_masks.png", "sub/{}_mask.png"]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_label_images_of_every_usual_name(tmp_path, name, dtype):
    image_folder(tmp_path)
    for number in range(4):
        write(tmp_path / "labels" / name.format(f"img{number}"), CELLS.astype(dtype))
    contents = convert(tmp_path)
    assert {split: len(c["images"]) for split, c in contents.items()} == {"train": 3, "val": 1}
    for content in contents.values():
        assert content["categories"] == [{"id": 1, "name": "object"}]
        for stem in stems(content):
            assert all(np.array_equal(m, CELLS == i) for i, m in enumerate(masks_of(content, stem), start=1))


def test_32_bit_labels_and_gray_16_bit_images(tmp_path):
    for number in range(4):
        write(tmp_path / "images" / f"img{number}.tif", random_image(24, 40, dtype=np.uint16))
        write(tmp_path / "labels" / f"img{number}.tif", CELLS.astype(np.uint32) * 100000)
    contents = convert(tmp_path, intensity="percentile:1,99")
    assert contents["train"]["info"] == {"intensity": "percentile:1,99"}
    assert len(masks_of(contents["train"], stems(contents["train"])[0])) == 2


def test_images_of_more_than_8_bits_may_have_a_mapping_of_their_own(tmp_path):
    for number in range(4):
        kind = np.uint16 if number < 2 else np.uint8
        write(tmp_path / "images" / f"img{number}.tif", random_image(24, 40, dtype=kind))
        write(tmp_path / "labels" / f"img{number}.tif", CELLS)
    output = tmp_path / "out" / "cells"
    convert_labelmaps(
        tmp_path / "images", tmp_path / "labels", output, val_fraction=0.0, default_intensity="range:0,65535"
    )
    for number in range(4):
        original = tifffile.imread(tmp_path / "images" / f"img{number}.tif").astype(float)
        written = cv2.imread(str(output / "train" / f"img{number}.png"))[..., 0]
        assert np.array_equal(written, np.rint(original / 257) if number < 2 else original)


@pytest.mark.parametrize("name", ["{}.labels.tif", "{}.rois.zip"])
def test_files_that_predict_writes_are_labels(name):
    notes = ConversionNotes()
    pairing = pair_files(["a.b.png"], [name.format("a.b"), "a.b.csv"], False, notes)
    assert [file.name for file in pairing.labels["a.b"]] == [name.format("a.b")]


def test_one_mask_file_an_object(tmp_path):
    image_folder(tmp_path)
    for number in range(4):
        for label in (1, 2):
            write(tmp_path / "labels" / f"img{number}" / f"{label}.png", (CELLS == label).astype(np.uint8) * 255)
    content = convert(tmp_path)["train"]
    assert all(np.array_equal(m, CELLS == i) for i, m in enumerate(masks_of(content, stems(content)[0]), start=1))


def test_one_folder_a_class(tmp_path):
    image_folder(tmp_path)
    for number in range(4):
        write(tmp_path / "labels" / "nuclei" / f"img{number}.png", np.where(CELLS == 1, 7, 0).astype(np.uint8))
        write(tmp_path / "labels" / "bodies" / f"img{number}.png", np.where(CELLS == 2, 3, 0).astype(np.uint8))
    content = convert(tmp_path)["train"]
    assert [c["name"] for c in content["categories"]] == ["bodies", "nuclei"]
    classes = [a["category_id"] for a in content["annotations"] if a["image_id"] == 1]
    assert classes == [1, 2] and np.array_equal(masks_of(content, stems(content)[1])[1], CELLS == 1)


def test_classes_from_a_table(tmp_path):
    image_folder(tmp_path)
    for number in range(4):
        write(tmp_path / "labels" / f"img{number}.png", CELLS)
    rows = [f"img{n}.png,{label},{'ab'[(n + label) % 2]}" for n in range(4) for label in (1, 2)]
    table = write(tmp_path / "classes.csv", "image,label,class\n" + "\n".join(rows))
    content = convert(tmp_path, classes=table)["train"]
    for image in content["images"]:
        number = int(image["file_name"][3])
        found = [a["category_id"] for a in content["annotations"] if a["image_id"] == image["id"]]
        assert found == [1 + (number + label) % 2 for label in (1, 2)]
    dates = [f"2024.01.05_{letter}" for letter in "abcd"]  # .05_a is no ending
    for name in dates:
        write(tmp_path / "dates" / "images" / f"{name}.png", random_image())
        write(tmp_path / "dates" / "labels" / f"{name}.png", CELLS)
    rows = [f"{name},{label},{name[-1]}{label}" for name in dates for label in (1, 2)]
    table = write(tmp_path / "dates" / "classes.csv", "image,label,class\n" + "\n".join(rows))
    dated = convert(tmp_path / "dates", classes=table)["train"]
    assert [c["name"] for c in dated["categories"]] == [f"{letter}{label}" for letter in "abcd" for label in (1, 2)]
    same = write(tmp_path / "same.csv", "label,class\n1,nucleus\n2,cell\n")
    content = convert(tmp_path, classes=same)["train"]
    assert [c["name"] for c in content["categories"]] == ["cell", "nucleus"]
    one_more = write(tmp_path / "more.csv", "image,label,class\nimg1,1,other\n,1,nucleus\n,2,cell\n")
    contents = convert(tmp_path, classes=one_more).values()
    assert sorted(
        (image["file_name"], content["categories"][a["category_id"] - 1]["name"])
        for content in contents
        for image in content["images"]
        for a in content["annotations"]
        if a["image_id"] == image["id"]
    )[2:5] == [("img1.png", "cell"), ("img1.png", "other"), ("img2.png", "cell")]
    twice = write(tmp_path / "twice.csv", "label,class\n1,nucleus\n2,cell\n1,cell\n")
    with pytest.raises(SourceError, match="label 1 has two classes, keep one"):
        convert(tmp_path, classes=twice)


def labelme(*shapes, size=(24, 40)):
    keys = ("label", "points", "shape_type", "group_id")
    return {"imageHeight": size[0], "imageWidth": size[1], "shapes": [dict(zip(keys, shape)) for shape in shapes]}


def test_labelme_files(tmp_path):
    image_folder(tmp_path)
    for number in range(4):
        shapes = labelme(
            ("cell", [[2, 2], [10, 2], [10, 9], [2, 9]], "polygon", None),
            ("leaf", [[20, 4], [30, 20]], "rectangle", 5),
            ("leaf", [[33, 4], [38, 8]], "rectangle", 5),
            ("cell", [[15, 15], [15, 18]], "circle", None),
        )
        write(tmp_path / "labels" / f"img{number}.json", shapes)
    content = convert(tmp_path)["train"]
    assert [c["name"] for c in content["categories"]] == ["cell", "leaf"]
    square, leaf, disk = masks_of(content, stems(content)[0])
    assert np.array_equal(square, labels((2, 2, 10, 9)) > 0)
    assert np.array_equal(leaf, labels((20, 4, 30, 20), (33, 4, 38, 8)) > 0)
    assert disk.sum() == pytest.approx(np.pi * 9, rel=0.3) and disk[14, 14]
    assert [a["category_id"] for a in content["annotations"]][:3] == [1, 2, 1]


def test_coco_polygons_pass_through_with_their_images(tmp_path):
    image_folder(tmp_path)
    square = [2.0, 2.0, 10.0, 2.0, 10.0, 9.0, 2.0, 9.0]
    content = {
        "categories": [{"id": 7, "name": "cell"}, {"id": 9, "name": "nucleus"}],
        "images": [{"id": 10 + n, "file_name": f"img{n}.png", "height": 24, "width": 40} for n in range(4)],
        "annotations": [
            {"id": n, "image_id": 10 + n, "category_id": (7, 9)[n % 2], "segmentation": [square], "iscrowd": 0}
            for n in range(4)
        ],
    }
    path = write(tmp_path / "coco.json", content)
    found = convert(tmp_path, path)
    for split in found.values():
        for image in split["images"]:
            (annotation,) = [a for a in split["annotations"] if a["image_id"] == image["id"]]
            assert annotation["category_id"] == 1 + int(image["file_name"][3]) % 2
            assert annotation["bbox"] == [2, 2, 8, 7] and annotation["area"] == 56


def test_coco_files_of_the_same_images_are_joined_by_class_and_copies_are_left_out(tmp_path):
    image_folder(tmp_path)
    for name, left in (("cells", 2.0), ("nuclei", 20.0), ("nuclei_copy", 20.0)):
        square = [left, 2.0, left + 8, 2.0, left + 8, 9.0, left, 9.0]
        content = {
            "categories": [{"id": 1, "name": name.split("_")[0]}],
            "images": [{"id": n + 1, "file_name": f"img{n}.png", "height": 24, "width": 40} for n in range(4)],
            "annotations": [
                {"id": n + 1, "image_id": n + 1, "category_id": 1, "segmentation": [square], "iscrowd": 0}
                for n in range(4)
            ],
        }
        write(tmp_path / "labels" / f"{name}.json", content)
    notes = convert_labelmaps(tmp_path / "images", tmp_path / "labels", tmp_path / "out" / "custom")
    found = {split: read_split(tmp_path / "out" / "custom", split) for split in ("train", "val")}
    for split in found.values():
        names = {c["id"]: c["name"] for c in split["categories"]}
        for image in split["images"]:
            boxes = {names[a["category_id"]]: a["bbox"] for a in split["annotations"] if a["image_id"] == image["id"]}
            assert boxes == {"cells": [2, 2, 8, 7], "nuclei": [20, 2, 8, 7]}
        assert len(split["annotations"]) == 2 * len(split["images"])
    assert "nuclei_copy.json: image img0.png is in nuclei.json too, with the same classes" in notes.full_text()


@pytest.mark.parametrize("groups", [r"^(.)_", "groups.csv"])
def test_frames_of_a_group_stay_in_one_split(tmp_path, groups):
    for video in "abcde":
        for frame in range(3):
            write(tmp_path / "images" / f"{video}_{frame}.png", random_image())
            write(tmp_path / "labels" / f"{video}_{frame}.png", CELLS)
    if groups.endswith("csv"):
        rows = "".join(f"{video}_{frame}.png,{video}\n" for video in "abcde" for frame in range(3))
        groups = str(write(tmp_path / groups, "image,group\n" + rows))
    contents = convert(tmp_path, groups=groups)
    train, val = ({stem[0] for stem in stems(content)} for content in contents.values())
    assert not train & val and train | val == set("abcde")


def test_what_has_no_partner_is_reported(tmp_path, capsys):
    image_folder(tmp_path, 5)
    for number in (0, 1, 2, 9):
        write(tmp_path / "labels" / f"img{number}.png", CELLS)
    convert(tmp_path)
    printed = capsys.readouterr().out
    assert "image without labels, left out: 2\n  img3.png\n  img4.png" in printed
    assert "labels without an image, left out: 1\n  img9" in printed


def test_image_without_objects_is_kept(tmp_path, capsys):
    image_folder(tmp_path)
    for number in range(4):
        write(tmp_path / "labels" / f"img{number}.png", CELLS * (number > 0))
    contents = convert(tmp_path)
    assert sum(len(c["images"]) for c in contents.values()) == 4
    assert "image without objects, kept: 1\n  img0" in capsys.readouterr().out


def test_same_input_same_bytes_and_another_seed_another_split(tmp_path):
    image_folder(tmp_path, 8)
    for number in range(8):
        write(tmp_path / "labels" / f"img{number}.png", CELLS)
    once, again, other = (json.dumps(convert(tmp_path, seed=seed)["val"]) for seed in (0, 0, 3))
    assert once == again != other


def test_nothing_to_pair(tmp_path):
    image_folder(tmp_path)
    write(tmp_path / "labels" / "other.png", CELLS)
    with pytest.raises(SourceError, match="none of the 4 images .* has usable labels of its name .* e.g. for img0.png"):
        convert(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("broken, status", [((), 0), ((2,), 2), ((0, 1, 2, 3), 1)])
def test_exit_status_says_whether_something_was_left_out(tmp_path, monkeypatch, capsys, broken, status):
    image_folder(tmp_path)
    for number in range(4):
        write(tmp_path / "labels" / f"img{number}.png", CELLS[: 9 if number in broken else None])
    script = Path(__file__).parents[3] / "datasets" / "prepare_labelmaps.py"
    places = {"--images": tmp_path / "images", "--labels": tmp_path / "labels", "--output": tmp_path / "out"}
    arguments = [str(word) for pair in places.items() for word in pair]
    monkeypatch.setattr(sys, "argv", [script.name, *arguments, "--val-fraction", "0"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == status
    assert ("error: no image of the source" in capsys.readouterr().err) == (status == 1)


@pytest.mark.parametrize("seed", range(4))
def test_broken_images_never_empty_a_split_while_others_can_be_used(tmp_path, seed):
    image_folder(tmp_path)
    for number in range(4):
        write(tmp_path / "labels" / f"img{number}.png", CELLS[: None if number < 2 else 9])
    notes = convert_labelmaps(tmp_path / "images", tmp_path / "labels", tmp_path / "out" / "cells", seed=seed)
    contents = [read_split(tmp_path / "out" / "cells", split) for split in ("train", "val")]
    assert sorted(stem for content in contents for stem in stems(content)) == ["img0", "img1"]
    assert notes.num_left_out == 2 and notes.full_text().count("save both at one size") == 2


def test_too_few_images_to_split_are_told_with_what_was_left_out(tmp_path):
    image_folder(tmp_path, 3)
    write(tmp_path / "labels" / "img0.png", CELLS)
    with pytest.raises(SourceError, match="cannot be split(.|\\n)*image without labels, left out: 2"):
        convert(tmp_path)


def test_one_usable_image_is_too_few_for_two_splits(tmp_path):
    image_folder(tmp_path)
    for number in range(4):
        write(tmp_path / "labels" / f"img{number}.png", CELLS[: None if number == 0 else 9])
    with pytest.raises(SourceError, match="no image of the split '.*' could be used(.|\\n)*both at one size"):
        convert(tmp_path)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
