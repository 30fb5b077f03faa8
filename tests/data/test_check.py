import copy
import json
import re
import runpy
import sys

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from objguided_d2.data import InstanceMapper, register_objguided_instances
from objguided_d2.data.check import check_coco_file, draw_check_sheet, format_report
from objguided_d2.data.converters.coco_writer import CocoWriter
from objguided_d2.data.intensity import IntensityMapping
from objguided_d2.data.source_error import SourceError
from tests.data.sources import labels, random_image, write


@pytest.fixture
def dataset(tmp_path):
    """Three images with 2, 1 and 0 objects of two classes; the path of the JSON file and of the images."""
    writer = CocoWriter(tmp_path / "val", ["cell", "nucleus"], {"intensity": "range:0,100"})
    cells = labels((2, 2, 10, 9), (12, 4, 30, 20))
    writer.add("a", random_image(), [cells == 1, cells == 2], [1, 2])
    writer.add("b", random_image(), [cells == 2], 1)
    writer.add("c", random_image(), [])
    writer.write_json(tmp_path / "annotations" / "x_val.json")
    return tmp_path / "annotations" / "x_val.json", tmp_path / "val"


def check(dataset, limit=100, **kwargs):
    return check_coco_file(*dataset, limit=limit, **kwargs)


def test_sound_file(dataset):
    report = check(dataset)
    assert not report.errors
    assert report.warnings == ["1 image(s) without objects, as c.png: background alone in training"]
    assert report.objects_per_class == {"cell": 2, "nucleus": 1}
    assert report.objects_per_image == {"a.png": 2, "b.png": 1, "c.png": 0}
    assert report.sizes == pytest.approx([np.sqrt(56), np.sqrt(288), np.sqrt(288)])
    assert report.info == {"intensity": "range:0,100"}
    text = format_report(report, 4, 1.0)
    assert "errors: 0" in text and "8 - 16" not in text.split("errors")[1] and "nucleus" in text


def test_sheet(dataset, tmp_path):
    draw_check_sheet(*dataset, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] > 3 * 40 and sheet.std() > 10


def test_centers_that_share_a_cell(tmp_path):
    writer = CocoWriter(tmp_path / "val", ["cell"])
    # Centers (1, 1) and (3.5, 3) share the first cell of stride 4 but not of stride 2; (7, 3) lies in the next.
    near = labels((0, 0, 2, 2)) == 1, labels((2, 2, 5, 4)) == 1, labels((6, 2, 8, 4)) == 1
    writer.add("a", random_image(), near)
    writer.write_json(tmp_path / "x.json")
    assert check((tmp_path / "x.json", tmp_path / "val")).collisions == {"a.png": 2}
    assert check((tmp_path / "x.json", tmp_path / "val"), scale=2.0).collisions == {}
    assert check((tmp_path / "x.json", tmp_path / "val"), scale=0.5).collisions == {"a.png": 3}


def test_too_many_objects(dataset):
    assert "a.png: 2 objects, more than the 1 detections" in check(dataset, limit=1).warnings[0]


def _set(path, value):
    def change(content):
        *keys, last = path
        target = content
        for key in keys:
            target = target[key]
        target[last] = value

    return change


BROKEN = {
    "no list of images": (_set(["images"], None), "has no list 'images'"),
    "no categories": (_set(["categories"], []), "'categories' is empty"),
    "class name twice": (_set(["categories", 1, "name"], "cell"), "categories, name 'cell': the name is there twice"),
    "image without size": (lambda c: c["images"][0].pop("width"), "images, entry 0, a.png, width None: no usable"),
    "image missing": (_set(["images", 0, "file_name"], "z.png"), "z.png does not exist"),
    "image of another size": (_set(["images", 2, "height"], 99), "c.png is (24, 40), its annotations are for (99, 40)"),
    "turned image": (lambda c: c["images"][2].update(height=40, width=24), "its orientation tag (EXIF)"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_error_names_the_entry(dataset, kind):
    change, message = BROKEN[kind]
    content = json.loads(dataset[0].read_text())
    change(content)
    dataset[0].write_text(json.dumps(content))
    errors = check(dataset).errors
    assert any(message in error for error in errors), errors


def test_masks_that_may_be_none_are_warned_of(tmp_path):
    writer = CocoWriter(tmp_path / "val", ["cell"])
    binary = labels((1, 1, 6, 6), (10, 1, 16, 6), (20, 1, 26, 6), (1, 10, 6, 16)) > 0
    writer.add("a", random_image(), [binary])
    writer.add("b", random_image(), [~binary])
    writer.write_json(tmp_path / "x.json")
    warnings = "\n".join(check((tmp_path / "x.json", tmp_path / "val")).warnings)
    assert "a.png: 4 separate pieces of the one value" in warnings and "a binary mask rather than labels" in warnings
    assert "b.png: the value" in warnings and "a background that is not 0" in warnings


def test_wrong_area_is_a_warning(dataset):
    content = json.loads(dataset[0].read_text())
    content["annotations"][0]["area"] = 5
    dataset[0].write_text(json.dumps(content))
    report = check(dataset)
    assert not report.errors and "'area' is 5, its mask has 56 pixels" in report.warnings[0]


def test_file_that_is_no_json(tmp_path):
    assert "is not JSON" in check((write(tmp_path / "a.json", "{"), tmp_path)).errors[0]


def truncated(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


def float_with_nan(path):
    path.unlink()
    values = np.linspace(0, 1, 24 * 40, dtype=np.float32).reshape(24, 40)
    values[3, 3] = np.nan
    write(path.with_suffix(".tif"), values).rename(path)


# What happened to an image, how training sees it: the error, or nothing with an intensity mapping or without.
FILES = {
    "16 bits": (
        lambda path: write(path, random_image(24, 40, dtype=np.uint16)),
        "uint16 values .* INPUT.INTENSITY",
        None,
    ),
    "float with NaN": (float_with_nan, "float32 values of 0.0 to 1.0 .* INPUT.INTENSITY", None),
    "no image": (lambda path: path.write_bytes(b"nothing"), "cannot be read", "cannot be read"),
    "cut off": (truncated, "cannot be read", "cannot be read"),
    "stack": (lambda path: write(path.with_suffix(".tif"), random_image(3, 5, 24, 40)).rename(path), "axes", "axes"),
    "palette": (lambda path: Image.fromarray(random_image(24, 40), "P").save(path), None, None),
    "gray": (lambda path: write(path, random_image(24, 40)), None, None),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("intensity", [None, "percentile:0.1,99.9"])
def test_check_and_training_agree_on_every_image_file(dataset, kind, intensity):
    change, *messages = FILES[kind]
    message = messages[intensity is not None]
    change(dataset[1] / "a.png")
    errors = check(dataset, intensity=intensity).errors
    register_objguided_instances("checked", *dataset)
    try:
        record = DatasetCatalog.get("checked")[0]
    finally:
        DatasetCatalog.remove("checked")
        MetadataCatalog.remove("checked")
    mapping = IntensityMapping.parse(intensity) if intensity else None
    mapper = InstanceMapper(is_train=True, augmentations=[], image_format="BGR", intensity=mapping)
    if message is None:
        assert not errors and len(mapper(record)["instances"]) == 2
    else:
        assert len(errors) == 1 and "a.png" in errors[0] and re.search(message, errors[0])
        with pytest.raises(SourceError, match=f"a.png.*{message}"):
            mapper(record)


def test_image_turned_by_its_orientation_tag_is_checked_as_training_reads_it(dataset):
    content = json.loads(dataset[0].read_text())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(random_image()).copy()).save(dataset[1] / "c.jpg", exif=exif)
    content["images"][2]["file_name"] = "c.jpg"
    dataset[0].write_text(json.dumps(content))
    assert not check(dataset).errors


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["check", *map(str, arguments)])
    try:
        runpy.run_module("objguided_d2.data.check", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


def test_command(dataset, tmp_path, monkeypatch, capsys):
    json_file, image_root = dataset
    run(monkeypatch, json_file, "--images", image_root, "--sheet", tmp_path / "sheet.png")
    assert f"Look at {tmp_path / 'sheet.png'}" in capsys.readouterr().out and (tmp_path / "sheet.png").exists()

    for sheet in (tmp_path / "sheet.foo", tmp_path / "nowhere" / "sheet.png"):
        with pytest.raises(SystemExit, match="must be a picture"):
            run(monkeypatch, json_file, "--images", image_root, "--sheet", sheet)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SystemExit, match="error: .*folder.png cannot be written: "):
        run(monkeypatch, json_file, "--images", image_root, "--sheet", tmp_path / "folder.png")
    with pytest.raises(SystemExit):
        run(monkeypatch, json_file, "--images", image_root, "--scale", 0)
    assert "--scale 0.0 is not above 0" in capsys.readouterr().err

    # A dataset that a preparation script has written is found by its name.
    (tmp_path / "root" / "x").mkdir(parents=True)
    (tmp_path / "annotations").rename(tmp_path / "root" / "x" / "annotations")
    image_root.rename(tmp_path / "root" / "x" / "val")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "root"))
    run(monkeypatch, "x_val", "--sheet", tmp_path / "named.png")
    assert (tmp_path / "named.png").exists()
    with pytest.raises(SystemExit, match="--images goes with a JSON file; dataset 'x_val' has a folder of its own"):
        run(monkeypatch, "x_val", "--images", tmp_path)
    DatasetCatalog.remove("x_val")
    MetadataCatalog.remove("x_val")

    content = json.loads((tmp_path / "root/x/annotations/x_val.json").read_text())
    broken = copy.deepcopy(content)
    broken["annotations"][0]["category_id"] = 7
    path = write(tmp_path / "broken.json", broken)
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, path, "--images", tmp_path / "root/x/val")
    assert stop.value.code == 1 and "category_id 7" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no_such.json does not exist"):
        run(monkeypatch, "no_such.json")
