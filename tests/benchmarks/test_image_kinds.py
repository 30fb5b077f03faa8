"""Kinds of images, and datasets of one of them."""

import json

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from benchmarks.image_kinds import (
    BRIGHT_FIELD,
    IMAGE_KINDS,
    LARGE_NUCLEI,
    SMALL_NUCLEI,
    STAINED,
    STAINED_DARK,
    image_kind,
    main,
)
from objguided_d2.data.builtin import dataset_files

COLORS = {"dark": (20, 20, 20), "bright": (200, 200, 200), "purple": (160, 90, 200), "deep": (60, 0, 60)}


def write_dataset(root, name, pictures, class_name="nucleus"):
    """Pictures of one color each, with one square of an area."""
    dataset, _, split = name.rpartition("_")
    (root / dataset / "annotations").mkdir(parents=True)
    (root / dataset / split).mkdir()
    images, annotations = [], []
    for number, (color, area) in enumerate(pictures, start=1):
        file_name = f"{name}{number}.png"
        cv2.imwrite(str(root / dataset / split / file_name), np.full((32, 32, 3), COLORS[color], np.uint8)[..., ::-1])
        images.append({"id": number, "file_name": file_name, "height": 32, "width": 32})
        square = {"segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]], "bbox": [0, 0, 9, 9], "area": area, "iscrowd": 0}
        annotations.append({"id": number, "image_id": number, "category_id": 1, **square})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": class_name}]}
    (root / dataset / "annotations" / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    write_dataset(tmp_path, "kindsa_train", [("dark", 81), ("purple", 81), ("deep", 900)])
    write_dataset(tmp_path, "kindsb_train", [("purple", 50), ("bright", 81)])
    yield tmp_path
    for name in [name for name in MetadataCatalog.list() if name.startswith("kinds")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_an_image_is_of_a_kind_by_its_colors_and_the_size_of_its_objects(root):
    expected = [(SMALL_NUCLEI, 81), (STAINED, 81), (STAINED_DARK, 81)]
    for number, (kind, area) in enumerate(expected, start=1):
        assert image_kind(str(root / "kindsa" / "train" / f"kindsa_train{number}.png"), [area, 9999, area]) == kind
    assert image_kind(str(root / "kindsa" / "train" / "kindsa_train1.png"), [400]) == LARGE_NUCLEI
    assert image_kind(str(root / "kindsb" / "train" / "kindsb_train2.png"), []) == BRIGHT_FIELD


def test_a_kind_and_all_others_are_the_whole(root, capsys):
    command = ["kindsa_train", "kindsb_train", "--kinds", STAINED, STAINED_DARK, "--output"]
    assert main([*command, "kindsstained_train"]) == 0 and main([*command, "kindsrest_train", "--others"]) == 0
    assert capsys.readouterr().out == "kindsstained_train: 3 images, 3 objects\nkindsrest_train: 2 images, 2 objects\n"
    names = []
    for name in ("kindsstained_train", "kindsrest_train"):
        json_file, image_root = dataset_files(name)
        content = json.loads(json_file.read_text())
        of_image = {image["id"]: image["file_name"] for image in content["images"]}
        names += of_image.values()
        for annotation in content["annotations"]:
            source = of_image[annotation["image_id"]].rpartition("_")[0]
            assert annotation["area"] in {"kindsa": (81, 900), "kindsb": (50, 81)}[source]
        assert all((image_root / file_name).is_file() for file_name in of_image.values())
        assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
    assert sorted(names) == sorted(
        [*(f"kindsa_train{i}.png" for i in (1, 2, 3)), "kindsb_train1.png", "kindsb_train2.png"]
    )


@pytest.mark.parametrize(
    "arguments, error",
    [
        (["kindsb_train", "--kinds", STAINED_DARK, "--output", "new_train"], "no image is stained, dark"),
        (["kindsb_train", "--kinds", *IMAGE_KINDS, "--others", "--output", "new_train"], "no image is other than"),
        (["kindsb_train", "kindsb_train", "--kinds", STAINED, "--output", "new_train"], "kindsb_train1.png, too"),
        (["kindsb_train", "--kinds", STAINED, "--output", "kindsa_train"], "is there already"),
        (["nothing_train", "--kinds", STAINED, "--output", "new_train"], "nothing_train"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(root, arguments, error, capsys):
    assert main(arguments) == 1
    captured = capsys.readouterr().err
    assert error in captured and captured.count("\n") == 1
    assert not (root / "new").exists() and len(list((root / "kindsa" / "train").iterdir())) == 3


def test_datasets_of_other_classes_are_not_mixed(root, capsys):
    write_dataset(root, "kindsc_train", [("purple", 81)], class_name="cell")
    assert main(["kindsa_train", "kindsc_train", "--kinds", STAINED, "--output", "new_train"]) == 1
    assert "kindsc_train has other classes than kindsa_train" in capsys.readouterr().err
