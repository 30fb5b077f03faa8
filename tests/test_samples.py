"""The sample images: what the card says of them, and that they are of the validation split."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from objguided_d2 import samples
from objguided_d2.data import datasets_root
from objguided_d2.data.converters.dsb2018 import read_split_ids
from objguided_d2.data.converters.labelmaps import convert_labelmaps
from tests.data.sources import masks_of, read_split

ROOT = Path(samples.__file__).parent
FOLDERS = ("nuclei", "stained/train", "stained/val")


def rows():
    return list(csv.DictReader((ROOT / "samples.tsv").read_text().splitlines(), delimiter="\t"))


def test_every_kind_is_there_with_labels_of_its_size():
    found = samples.nuclei()
    kinds = {sample.kind for sample in found}
    assert len(kinds) == len(found) == 9
    for word in ("fluorescence_small", "fluorescence_large", "stained_purple", "stained_pink_white", "bright_field"):
        assert any(kind.startswith(word) for kind in kinds)
    for sample in [*found, *samples.stained("train"), *samples.stained("val")]:
        assert sample.image.shape[:2] == sample.labels.shape and sample.image.shape[2:] in ((), (3,))
        assert (sample.image.dtype, sample.labels.dtype) == (np.uint8, np.uint16)
        assert np.array_equal(np.unique(sample.labels), np.arange(sample.labels.max() + 1))
        assert sample.license == "CC0-1.0" and "BBBC038" in sample.source


def test_stained_images_are_as_many_as_the_docstring_says_and_apart():
    train, val = samples.stained("train"), samples.stained("val")
    assert [(len(part), sum(int(s.labels.max()) for s in part)) for part in (train, val)] == [(5, 262), (3, 129)]
    assert not {s.source for s in train} & {s.source for s in val}
    with pytest.raises(ValueError, match="splits train and val, not 'test'"):
        samples.stained("test")


def test_all_are_of_the_validation_split_and_on_the_card():
    ids = {row["dsb2018"] for row in rows()}
    assert ids <= set(read_split_ids("val"))
    card = (ROOT / "README.md").read_text()
    assert all(f"| {row['name']} |" in card and row["dsb2018"] in card for row in rows())


def test_folders_hold_all_files_and_are_small():
    for name in FOLDERS:
        names = sorted(row["name"] for row in rows() if row["folder"] == name)
        for kind in ("images", "labels"):
            assert sorted(path.stem for path in (samples.folder(name) / kind).iterdir()) == names
    assert sum(path.stat().st_size for path in ROOT.rglob("*.png")) < 2e6
    with pytest.raises(ValueError, match="no samples 'leaves'; the folders are nuclei, "):
        samples.folder("leaves")


def test_folder_of_stained_images_is_a_source_for_prepare(tmp_path):
    notes = convert_labelmaps(samples.folder("stained"), samples.folder("stained"), tmp_path / "stained")
    assert notes.num_left_out == 0
    content = read_split(tmp_path / "stained", "val")
    assert len(content["images"]) == 3 and len(read_split(tmp_path / "stained", "train")["images"]) == 5
    sample = samples.stained("val")[0]
    (stem,) = [Path(i["file_name"]).stem for i in content["images"] if i["file_name"].endswith(f"{sample.name}.png")]
    assert all(np.array_equal(m, sample.labels == i) for i, m in enumerate(masks_of(content, stem), start=1))


def test_samples_need_neither_torch_nor_detectron2():
    code = (
        "import sys; from objguided_d2.samples import nuclei; nuclei(); print({'torch', 'detectron2'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parents[1], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_pixels_are_those_of_the_converted_real_set():
    folder = datasets_root() / "dsb2018/val"
    if not folder.is_dir():
        pytest.skip(f"no dsb2018_val under the datasets root {datasets_root()}; see datasets/README.md")
    for row in rows():
        x1, y1, x2, y2 = (int(n) for n in row["crop"].split(",")) if row["crop"] else (0, 0, None, None)
        real = cv2.imread(str(folder / f"{row['dsb2018']}.png"))[y1:y2, x1:x2]
        assert np.array_equal(cv2.imread(str(ROOT / row["folder"] / "images" / f"{row['name']}.png")), real)
