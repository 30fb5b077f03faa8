"""What people's folders look like when something is wrong: each message names the file and what to do about it.

Where one file of many is broken, the others are converted and the message is in the summary; where nothing can be done,
the conversion ends with it. Either way nothing half written is left.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from objguided_d2.data.converters.ctc import convert_ctc
from objguided_d2.data.converters.labelmaps import convert_labelmaps
from objguided_d2.data.converters.plant import convert_plants
from objguided_d2.data.source_error import SourceError
from tests.data.sources import labels, random_image, write

CELLS = labels((2, 2, 10, 9), (12, 4, 30, 20))
IMAGE = random_image()


def good(root: Path) -> None:
    """Four pairs that can be used; a broken one comes in addition as img9."""
    for number in range(4):
        write(root / "images" / f"img{number}.png", IMAGE)
        write(root / "labels" / f"img{number}.png", CELLS)


def convert(root: Path, **kwargs) -> None:
    convert_labelmaps(
        root / "images", kwargs.pop("labels", root / "labels"), root / "out" / "cells", val_fraction=0.2, **kwargs
    )


def pair(image=IMAGE, label=CELLS, image_name="img9.png", label_name="img9.png"):
    def build(root):
        good(root)
        if image is not None:
            write(root / "images" / image_name, image)
        if label is not None:
            write(root / "labels" / label_name, label)
        convert(root)

    return build


def labelme(content):
    return pair(label=content, label_name="img9.json")


def polygon(points, **shape):
    shape = {"label": "cell", "points": points, "shape_type": "polygon", **shape}
    return {"imageHeight": 24, "imageWidth": 40, "shapes": [shape]}


# What is broken, how it is built, and what the summary says of it: the file, then the fix.
LEFT_OUT = {
    "empty image file": (pair(image=b""), "img9.png is empty", "copy it again"),
    "image cut short": (pair(image=b"\x89PNG\r\n\x1a\n\x00\x00"), "img9.png cannot be read", "save it again"),
    "text called png": (pair(image="not an image"), "img9.png cannot be read", "save it again as PNG or TIFF"),
    "stack of frames": (
        pair(image=random_image(5, 24, 40), image_name="img9.tif"),
        "img9.tif holds 5 planes (axes QYX, 5x24x40)",
        "save the slice, frame or channel to be segmented",
    ),
    "many channels": (
        pair(image=random_image(24, 40, 7), image_name="img9.tif"),
        "img9.tif holds 24 planes (axes QYX, 24x40x7)",
        "save the slice",
    ),
    "16 bits without a mapping": (
        pair(image=random_image(24, 40, dtype=np.uint16)),
        "img9.png: uint16 values",
        "give it as --intensity",
    ),
    "label image cut short": (pair(label=b"\x89PNG\r\n\x1a\n\x00\x00"), "img9.png cannot be read", "save it again"),
    "labels of another size": (
        pair(label=CELLS[:-1]),
        "img9.png is (23, 40), its image (24, 40) (height, width)",
        "save both at one size",
    ),
    "labels with fractions": (
        pair(label=CELLS.astype(np.float32) / 2, label_name="img9.tif"),
        "img9.tif holds fractions",
        "save it as integers",
    ),
    "negative labels": (
        pair(label=CELLS.astype(np.int32) - 1, label_name="img9.tif"),
        "img9.tif holds negative labels",
        "save the background as 0",
    ),
    "image without labels": (pair(label=None), "image without labels, left out", "img9.png"),
    "labels without image": (pair(image=None), "labels without an image, left out", "img9"),
    "JSON cut short": (
        labelme('{"shapes": ['),
        "img9.json is not JSON",
        "export it again",
    ),
    "JSON of another kind": (labelme({"features": []}), "img9.json is not a LabelMe, GeoJSON or COCO file", "export"),
    "outlines of another image": (
        labelme({**polygon([[0, 0], [5, 0], [5, 5]]), "imageHeight": 99}),
        "img9.json is for an image of (99, 40)",
        "annotate this image",
    ),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_one_broken_file_is_left_out_and_named(tmp_path, capsys, kind):
    build, where, fix = LEFT_OUT[kind]
    build(tmp_path)
    summary = capsys.readouterr().out
    assert where in summary and fix in summary
    contents = [json.loads(path.read_text()) for path in (tmp_path / "out" / "cells" / "annotations").iterdir()]
    assert sum(len(content["images"]) for content in contents) == 4
    assert not list((tmp_path / "out").glob(".*"))


# What shape is odd and what the summary says of it; the image keeps its other shapes.
ODD_SHAPES = {
    "outline of two points": (polygon([[0, 0], [5, 5]]), "is a polygon of 2 points; use polygons"),
    "line": (polygon([[0, 0], [5, 5]], shape_type="line"), "is a line, which has no area; use polygons"),
    "point": (polygon([[5, 5]], shape_type="point"), "is a point, which has no area"),
    "strip": (polygon([[0, 0], [5, 5], [9, 9]], shape_type="linestrip"), "is a linestrip, which has no area"),
    "unknown kind": (polygon([[0, 0], [5, 5], [9, 9]], shape_type="cuboid"), "is a cuboid of 3 points"),
    "no number": (polygon([[0, 0], [5, None], [5, 5]]), "a point that is no number; draw it again"),
    "text as points": (polygon("points"), "lacks points"),
    "odd count": (polygon([0, 0, 5, 5, 9]), "lacks points"),
    "beyond the image": (polygon([[100, 100], [120, 100], [120, 120]]), "covers no pixel; draw it again inside"),
    "no points": ({"shapes": [{"label": "cell"}]}, "lacks points"),
    "no object": ({"shapes": ["cell"]}, "is no object with points"),
    "mask without picture": (polygon([[0, 0], [5, 5]], shape_type="mask"), "is a mask without its picture"),
    "mask of a damaged picture": (polygon([[0, 0], [5, 5]], shape_type="mask", mask="iVBORw0K"), "cannot be read"),
}


@pytest.mark.parametrize("kind", ODD_SHAPES)
def test_one_odd_shape_costs_that_shape(tmp_path, capsys, kind):
    content, message = ODD_SHAPES[kind]
    whole = polygon([[2, 2], [10, 2], [10, 9]])
    labelme({**whole, "shapes": content["shapes"] + whole["shapes"]})(tmp_path)
    summary = capsys.readouterr().out
    assert f"shape left out: 1\n  img9.json, shape 0 {message}" in summary or (
        "img9.json, shape 0" in summary and message in summary
    )
    contents = [json.loads(path.read_text()) for path in (tmp_path / "out" / "cells" / "annotations").iterdir()]
    images = {image["file_name"]: image["id"] for content in contents for image in content["images"]}
    assert len(images) == 5
    assert sum(len(content["annotations"]) for content in contents) == 4 * 2 + 1


def coco(**changes):
    content = {
        "categories": [{"id": 1, "name": "cell"}],
        "images": [{"id": 1, "file_name": "img0.png"}, {"id": 2, "file_name": "img1.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 10, 2, 10, 9]]}],
    }

    def build(root):
        good(root)
        convert(root, labels=write(root / "coco.json", {**content, **changes}))

    return build


def with_good(**kwargs):
    def build(root):
        good(root)
        tables = {name: write(root / f"{name}.csv", text) for name, text in kwargs.pop("tables", {}).items()}
        convert(root, **{k: str(v) if k == "groups" else v for k, v in tables.items()}, **kwargs)

    return build


def broken_zip(root):
    good(root)
    write(root / "labels.zip", b"PK\x03\x04 and no more")
    convert(root, labels=root / "labels.zip")


def no_images(root):
    write(root / "images" / "readme.txt", "nothing here")
    write(root / "labels" / "img0.png", CELLS)
    convert(root)


def all_broken(root):
    for number in range(4):
        write(root / "images" / f"img{number}.png", b"")
        write(root / "labels" / f"img{number}.png", CELLS)
    convert(root)


def hdf5_cut_short(root):
    write(root / "lsc" / "truth.h5", b"\x89HDF\r\n\x1a\n")
    convert_plants(root / "lsc", root / "out" / "lsc")


def ctc_without_truth(root):
    write(root / "ctc" / "01" / "t000.tif", IMAGE[..., 0])
    convert_ctc(root / "ctc", root / "out" / "ctc")


def ctc_volume(root):
    write(root / "ctc" / "01" / "t000.tif", IMAGE[..., 0])
    write(root / "ctc" / "01_GT" / "SEG" / "man_seg_000_003.tif", CELLS)
    convert_ctc(root / "ctc", root / "out" / "ctc")


# What is broken, how it is built, and what the error says of it.
REFUSED = {
    "no such folder": (lambda root: convert(root), "images does not exist", "give the downloaded"),
    "no image in the folder": (no_images, "images holds no image", "files ending in .png"),
    "no such label folder": (with_good(labels=Path("nowhere")), "nowhere does not exist", "give the"),
    "damaged archive": (broken_zip, "labels.zip is not a complete zip archive", "download it again"),
    "every file broken": (all_broken, "no image of the source could be used", "img3.png is empty"),
    "COCO without images": (coco(images=None), "coco.json is not COCO instance JSON", "export it again"),
    "COCO with one name twice": (
        coco(images=[{"id": 1, "file_name": "a/img0.png"}, {"id": 2, "file_name": "b/img0.png"}]),
        "coco.json has several images called img0",
        "unique names",
    ),
    "table of classes without column": (
        with_good(tables={"classes": "number,class\n1,a\n"}),
        "classes.csv has columns ['number', 'class']",
        "it needs class, label",
    ),
    "class of no number": (with_good(tables={"classes": "label,class\none,a\n"}), "classes.csv", "not a whole number"),
    "group of an image missing": (
        with_good(tables={"groups": "image,group\nimg0.png,a\n"}),
        "groups.csv",
        "no row for image img1 and 2 more",
    ),
    "no pattern": (with_good(groups="("), "--groups '(' is no regular expression", "unterminated"),
    "pattern whose group fits nothing": (with_good(groups="^(1)?"), "matches nothing", "'img0'"),
    "classes with a short row": (
        with_good(tables={"classes": "image,class,label\nimg0.png,a\n"}),
        "classes.csv",
        "whole",
    ),
    "pattern that fits nothing": (with_good(groups="video(\\d)"), "'video(\\\\d)' matches nothing", "'img0'"),
    "HDF5 cut short": (hdf5_cut_short, "truth.h5 is not a complete HDF5 file", "download it again"),
    "sequence without truth": (ctc_without_truth, "ctc holds no frames", "give the folder of one dataset"),
    "volumes": (ctc_volume, "man_seg_000_003.tif is a slice of a volume", "only the 2D datasets"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_source_that_cannot_be_used_is_refused(tmp_path, kind):
    build, where, fix = REFUSED[kind]
    with pytest.raises(SourceError) as error:
        build(tmp_path)
    assert where in str(error.value) and fix in str(error.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def coco_of_four(root, **changes):
    """A COCO file of all four good images."""
    images = [{"id": n, "file_name": f"img{n}.png"} for n in range(4)]
    annotations = [
        {"id": 4 + n, "image_id": n, "category_id": 1, "segmentation": [[2, 2, 10, 2, 10, 9]]} for n in range(4)
    ]
    annotations[0].update(changes)
    coco(images=images, annotations=annotations)(root)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"category_id": 3}, "coco.json, annotation 4 of img0.png, category_id 3: category_id is not in 'categories'"),
        (
            {"segmentation": [[5.0, 5.0, 20.0, 20.0]]},
            "annotation 4 of img0.png, segmentation: it has no ring",
        ),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, "segmentation: mask of height x width [9, 9] in an image"),
    ],
)
def test_coco_annotation_that_cannot_be_read_costs_its_image(tmp_path, capsys, changes, message):
    coco_of_four(tmp_path, **changes)
    summary = capsys.readouterr().out
    assert f"left out: 1\n  {message}" in summary or message in summary
    assert "train: 2 of 3" in summary or "train: 3 of 3" in summary


@pytest.mark.parametrize("image_id, message", [(None, "image_id None: 'image_id' names no"), (77, "image_id 77: its")])
def test_coco_annotation_of_no_image_is_noted(tmp_path, capsys, image_id, message):
    coco_of_four(tmp_path, image_id=image_id)
    assert f"annotation 4, {message}" in capsys.readouterr().out


def test_coco_annotations_for_another_image_size_cost_the_image(tmp_path, capsys):
    images = [{"id": n, "file_name": f"img{n}.png", "height": 24 * (1 + (n == 1)), "width": 40} for n in range(4)]
    coco(images=images)(tmp_path)
    summary = capsys.readouterr().out
    assert "img1.png is (24, 40), its annotations are for (48, 40) (height, width); the masks would lie" in summary


def test_ids_of_joined_coco_files_are_refused(tmp_path):
    images = [{"id": n % 2, "file_name": f"img{n}.png"} for n in range(4)]
    with pytest.raises(SourceError, match="coco.json: images, id 0, img0.png and img2.png .and 1 more.: two images"):
        coco(images=images)(tmp_path)


def test_label_without_class_costs_its_image(tmp_path, capsys):
    good(tmp_path)
    write(tmp_path / "labels" / "img3.png", CELLS * 3)
    convert(tmp_path, classes=write(tmp_path / "classes.csv", "label,class\n1,a\n2,b\n"))
    assert "img3.png: label 3 has no row in the file of --classes; add it" in capsys.readouterr().out


def test_archive_member_that_fails_its_checksum_is_left_out(tmp_path, capsys):
    good(tmp_path)
    archive = tmp_path / "labels.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "labels").iterdir()):
            file.write(path, path.name)
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data)
    convert(tmp_path, labels=archive)
    assert "img0.png cannot be read" in capsys.readouterr().out


def test_more_than_25_kinds_are_covered():
    assert len(LEFT_OUT) + len(REFUSED) >= 25
