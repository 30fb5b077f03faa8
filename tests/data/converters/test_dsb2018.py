"""Conversion of Kaggle's layout: hand-made trees with every kind of damage, and the real set where it is at hand."""

import runpy
import shutil
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from objguided_d2.data import datasets_root
from objguided_d2.data.converters import coco_writer, dsb2018
from objguided_d2.data.converters.dsb2018 import (
    convert_dsb2018,
    convert_dsb2018_extra,
    read_names_in_dsb2018,
    read_split_ids,
)
from objguided_d2.data.source_error import SourceError
from tests.data.sources import read_split

HEIGHT, WIDTH = 12, 20
SCRIPT = Path(__file__).parents[3] / "datasets" / "prepare_dsb2018.py"


def rectangle(y0, x0, y1, x1):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[y0:y1, x0:x1] = 255
    return mask


def write_sample(root, name, image, masks):
    for folder, files in (("images", {name: image}), ("masks", masks)):
        (root / name / folder).mkdir(parents=True)
        for stem, pixels in files.items():
            path = root / name / folder / f"{stem}.png"
            if isinstance(pixels, bytes):
                path.write_bytes(pixels)
            else:
                assert cv2.imwrite(str(path), pixels)


def random_image(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.fixture
def splits(monkeypatch):
    """Short split lists: a0, a1, ... are for training, v0 for validation, t0 for testing."""
    ids = {"train": [f"a{i}" for i in range(10)], "val": ["v0"], "test": ["t0"]}
    monkeypatch.setattr(dsb2018, "read_split_ids", ids.__getitem__)


@pytest.fixture
def clean(tmp_path, splits):
    """Two training images and one validation image, all in order."""
    root = tmp_path / "kaggle"
    write_sample(root, "a1", random_image(HEIGHT, WIDTH, 4), {"m": rectangle(2, 3, 5, 9)})
    write_sample(
        root, "a0", random_image(HEIGHT, WIDTH, 3), {"n2": rectangle(0, 0, 2, 2), "n1": rectangle(6, 10, 12, 20)}
    )
    write_sample(root, "v0", random_image(HEIGHT, WIDTH, 3), {"m": rectangle(1, 1, 2, 4)})
    return root


def zip_folder(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        # In reverse, so that equal output shows that the order of the entries does not matter.
        for file in sorted(folder.rglob("*.png"), reverse=True):
            archive.write(file, file.relative_to(folder))
    return path


def file_bytes(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_annotations_and_images(clean, tmp_path):
    output = tmp_path / "out" / "dsb2018"
    convert_dsb2018(clean, output)
    content = read_split(output, "train")
    assert content["categories"] == [{"id": 1, "name": "nucleus"}]
    assert content["images"] == [
        {"id": 1, "file_name": "a0.png", "height": HEIGHT, "width": WIDTH},
        {"id": 2, "file_name": "a1.png", "height": HEIGHT, "width": WIDTH},
    ]
    keys = ("id", "image_id", "category_id", "iscrowd", "area", "bbox")
    assert [tuple(annotation[key] for key in keys) for annotation in content["annotations"]] == [
        (1, 1, 1, 0, 60, [10, 6, 10, 6]),
        (2, 1, 1, 0, 4, [0, 0, 2, 2]),
        (3, 2, 1, 0, 18, [3, 2, 6, 3]),
    ]
    rle = content["annotations"][2]["segmentation"]
    assert np.array_equal(mask_util.decode(rle), rectangle(2, 3, 5, 9) > 0)
    written = cv2.imread(str(output / "train" / "a1.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(written, random_image(HEIGHT, WIDTH, 4)[..., :3])


def test_zip_folder_and_repetition_give_the_same_bytes(clean, tmp_path):
    wrapped = tmp_path / "wrapped"
    shutil.copytree(clean, wrapped / "stage1_train")
    sources = [clean, clean, wrapped, zip_folder(clean, tmp_path / "a.zip"), zip_folder(wrapped, tmp_path / "b.zip")]
    results = []
    for i, source in enumerate(sources):
        convert_dsb2018(source, tmp_path / f"run{i}" / "dsb2018")
        results.append(file_bytes(tmp_path / f"run{i}" / "dsb2018"))
    assert set(results[0]) == {
        "train/a0.png",
        "train/a1.png",
        "val/v0.png",
        "annotations/dsb2018_train.json",
        "annotations/dsb2018_val.json",
        "conversion_notes.txt",
    }
    assert all(result == results[0] for result in results[1:])


def test_missing_and_unlisted_ids_are_named(clean, tmp_path, capsys):
    write_sample(clean, "unlisted", random_image(HEIGHT, WIDTH), {"m": rectangle(0, 0, 3, 3)})
    write_sample(clean, "orphan", random_image(HEIGHT, WIDTH), {"m": rectangle(0, 0, 3, 3)})
    (clean / "orphan" / "images" / "orphan.png").unlink()
    convert_dsb2018(clean, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "train: 2 of 2 images, 3 objects" in printed
    assert "id of the train list that the source does not have: 8\n  a2\n  a3" in printed
    assert "id of the test list that the source does not have: 1\n  t0" in printed
    assert "image in no split list, left out: 1\n  unlisted/images/unlisted.png" in printed
    assert "masks without their image, left out: 1\n  orphan" in printed
    assert not (tmp_path / "out" / "test").exists()


def test_odd_files_are_handled_and_named(tmp_path, splits, capsys):
    root = tmp_path / "kaggle"
    good = rectangle(2, 2, 6, 6)
    damaged = cv2.imencode(".png", random_image(HEIGHT, WIDTH, 3))[1].tobytes()[:100]
    two_pieces = rectangle(0, 0, 2, 2) | rectangle(8, 8, 10, 10)
    write_sample(root, "a0", random_image(HEIGHT, WIDTH), {"m": good})
    write_sample(root, "a1", random_image(HEIGHT, WIDTH, 3, dtype=np.uint16), {"m": good})
    write_sample(root, "a2", damaged, {"m": good})
    write_sample(root, "a3", random_image(HEIGHT, WIDTH, 3), {"m": good, "size": good.T})
    write_sample(root, "a4", random_image(HEIGHT, WIDTH, 3), {"m": good, "empty": rectangle(0, 0, 0, 0)})
    write_sample(root, "a5", random_image(HEIGHT, WIDTH, 3), {"m": good, "damaged": damaged, "nothing": b""})
    write_sample(root, "a6", random_image(HEIGHT, WIDTH, 3), {"pieces": two_pieces, "dot": rectangle(0, 0, 1, 2)})
    write_sample(root, "a7", random_image(HEIGHT, WIDTH, 3), {"m": good, "over": rectangle(5, 5, 9, 9)})
    write_sample(root, "a8", random_image(HEIGHT, WIDTH, 3), {"damaged": damaged})
    opaque = np.full_like(good, 255)
    write_sample(root, "a9", random_image(HEIGHT, WIDTH, 3), {"rgba": np.dstack([good, good, good, opaque])})
    convert_dsb2018(root, tmp_path / "out")

    printed = capsys.readouterr().out
    for line in (
        "16-bit image, divided by 257: 1\n  a1/images/a1.png",
        "left out: 2\n  a2/images/a2.png cannot be read",
        "mask of another size than its image, left out: 1\n  a3/masks/size.png",
        "empty mask, not an object: 1\n  a4/masks/empty.png",
        "unreadable mask, left out: 3\n  a5/masks/damaged.png",
        "object in several pieces, kept as one: 1\n  a6/masks/pieces.png",
        "object of 1 or 2 pixels, dropped: 1\n  a6/masks/dot.png",
        "image with overlapping masks, kept: 1\n  a7 (1 pixels)",
        "a8/images/a8.png has no readable mask file; add an empty mask if it has no nuclei",
    ):
        assert line in printed
    content = read_split(tmp_path / "out", "train")
    names = {image["id"]: image["file_name"][:2] for image in content["images"]}
    areas = {name: [] for name in names.values()}
    for annotation in content["annotations"]:
        areas[names[annotation["image_id"]]].append(annotation["area"])
    assert areas == {
        "a0": [16], "a1": [16], "a3": [16], "a4": [16], "a5": [16], "a6": [8], "a7": [16, 16], "a9": [16]
    }  # fmt: skip
    gray = cv2.imread(str(tmp_path / "out/train/a0.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(gray, np.dstack([random_image(HEIGHT, WIDTH)] * 3))
    deep = cv2.imread(str(tmp_path / "out/train/a1.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(deep, np.rint(random_image(HEIGHT, WIDTH, 3, dtype=np.uint16) / 257).astype(np.uint8))


def test_image_without_nuclei_is_kept_and_one_without_masks_is_not(clean, tmp_path, capsys):
    write_sample(clean, "a2", random_image(HEIGHT, WIDTH), {"empty": rectangle(0, 0, 0, 0)})
    write_sample(clean, "a3", random_image(HEIGHT, WIDTH), {})
    convert_dsb2018(clean, tmp_path / "out")
    images = [image["file_name"] for image in read_split(tmp_path / "out", "train")["images"]]
    assert images == ["a0.png", "a1.png", "a2.png"]
    printed = capsys.readouterr().out
    assert "image without objects, kept: 1\n  a2" in printed
    assert "a3/images/a3.png has no readable mask file" in printed


def test_stage1_test_is_a_training_set_by_itself(clean, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "download" / "stage1_test"
    write_sample(
        folder, "x1", random_image(HEIGHT, WIDTH, 4), {"m": rectangle(2, 3, 5, 9), "n": rectangle(6, 0, 12, 2)}
    )
    write_sample(folder, "w0", random_image(HEIGHT, WIDTH, 3), {"m": rectangle(1, 1, 2, 4)})
    write_sample(folder, "orphan", random_image(HEIGHT, WIDTH), {"m": rectangle(0, 0, 3, 3)})
    (folder / "orphan" / "images" / "orphan.png").unlink()
    known = min(read_names_in_dsb2018("dsb2018_extra"))
    write_sample(folder, known, random_image(HEIGHT, WIDTH), {"m": rectangle(0, 0, 3, 3)})
    assert run_script(monkeypatch, "--stage1-test", folder.parent, "--output", tmp_path / "root") == 2
    printed = capsys.readouterr().out
    assert "masks without their image, left out: 1\n  orphan" in printed
    assert f"image that is also in stage1_train, not taken: 1\n  {known}" in printed
    output = tmp_path / "root" / "dsb2018_extra"
    content = read_split(output, "train")
    assert [image["file_name"] for image in content["images"]] == ["w0.png", "x1.png"]
    assert [annotation["area"] for annotation in content["annotations"]] == [3, 18, 12]
    convert_dsb2018_extra(zip_folder(folder.parent, tmp_path / "a.zip"), tmp_path / "zip" / "dsb2018_extra")
    assert file_bytes(tmp_path / "zip" / "dsb2018_extra") == file_bytes(output)


def test_images_of_the_papers_splits_are_no_extra_ones(clean, tmp_path):
    with pytest.raises(SourceError, match="holds 3 images of stage1_train, as a0; give stage1_train as --source"):
        convert_dsb2018_extra(clean, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ids_of_another_set_are_pointed_to_the_general_converter(tmp_path, splits):
    write_sample(tmp_path / "own", "mine", random_image(HEIGHT, WIDTH), {"m": rectangle(0, 0, 3, 3)})
    with pytest.raises(SourceError, match="none of the 12 ids .* run `objguided prepare labelmaps --images .*own"):
        convert_dsb2018(tmp_path / "own", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_archive_member_is_an_unreadable_file(clean, tmp_path, capsys):
    path = zip_folder(clean, tmp_path / "a.zip")
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("a1/masks/m.png")
    data = bytearray(path.read_bytes())
    # 30 bytes of local header, then the name, then the stored file.
    data[entry.header_offset + 30 + len(entry.filename) + 40] ^= 0xFF
    path.write_bytes(data)
    convert_dsb2018(path, tmp_path / "out")
    assert "unreadable mask, left out: 1\n  a1/masks/m.png cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["missing", "not a zip", "wrong layout", "no masks", "twice"])
def test_unusable_source_is_named_and_leaves_nothing(kind, clean, tmp_path):
    source = tmp_path / "source"
    if kind == "not a zip":
        source.write_bytes(b"PK\x03\x04 cut off")
    elif kind == "wrong layout":
        source.mkdir()
        assert cv2.imwrite(str(source / "a0.png"), rectangle(0, 0, 1, 1))
    elif kind == "no masks":
        write_sample(source, "a0", random_image(HEIGHT, WIDTH), {})
    elif kind == "twice":
        clean.rename(tmp_path / "first")
        source.mkdir()
        (tmp_path / "first").rename(source / "first")
        write_sample(source / "second", "a0", random_image(HEIGHT, WIDTH), {"m": rectangle(0, 0, 1, 1)})
    before = set(tmp_path.iterdir())
    with pytest.raises(SourceError, match=str(source)):
        convert_dsb2018(source, tmp_path / "out")
    assert set(tmp_path.iterdir()) == before


def test_an_error_on_the_way_keeps_the_earlier_result(clean, tmp_path, monkeypatch):
    output = tmp_path / "out"
    convert_dsb2018(clean, output)
    before = file_bytes(output)
    write_sample(clean, "a2", random_image(HEIGHT, WIDTH), {"m": rectangle(0, 0, 3, 3)})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(coco_writer.CocoWriter, "write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        convert_dsb2018(clean, output)
    assert file_bytes(output) == before
    assert {path.name for path in tmp_path.iterdir()} == {"kaggle", "out"}


def run_script(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return end.value.code


def test_script_writes_into_the_datasets_root(clean, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "root"))
    assert run_script(monkeypatch, "--source", clean) == 0
    assert run_script(monkeypatch, "--source", clean, "--output", tmp_path / "other") == 0
    assert file_bytes(tmp_path / "root" / "dsb2018") == file_bytes(tmp_path / "other" / "dsb2018") != {}


def test_script_ends_with_the_error_alone(tmp_path, monkeypatch, capsys):
    assert run_script(monkeypatch, "--source", tmp_path / "nowhere.zip") == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'nowhere.zip'} does not exist")


def test_split_lists_are_the_papers_and_disjoint():
    ids = {split: read_split_ids(split) for split in dsb2018.SPLITS}
    assert {split: len(names) for split, names in ids.items()} == {"train": 402, "val": 134, "test": 134}
    assert len(set().union(*ids.values())) == 670


@pytest.mark.parametrize("split", ["train", "val"])
def test_converted_real_set(split):
    folder = datasets_root() / "dsb2018"
    if not (folder / "annotations" / f"dsb2018_{split}.json").is_file():
        pytest.skip(f"no dsb2018_{split} under the datasets root {datasets_root()}; see datasets/README.md")
    content = read_split(folder, split)
    names = {Path(image["file_name"]).stem for image in content["images"]}
    assert names <= set(read_split_ids(split)) and len(names) >= 0.95 * len(read_split_ids(split))
    assert {path.stem for path in (folder / split).glob("*.png")} >= names
    for annotation in content["annotations"]:
        assert annotation["area"] == mask_util.area(annotation["segmentation"]) > 0
