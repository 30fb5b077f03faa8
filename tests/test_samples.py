"""The sample images: what the card says of them, and that they are of the validation split."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from objguided_d2 import samples
from objguided_d2.data import datasets_root
from objguided_d2.data.converters.dsb2018 import read_split_ids
from objguided_d2.data.converters.labelmaps import convert_labelmaps
from tests.data.sources import masks_of, read_split

ROOT = Path(samples.__file__).parent
FOLDERS = ("nuclei", "cells/train", "cells/val")


def rows():
    return list(csv.DictReader((ROOT / "samples.tsv").read_text().splitlines(), delimiter="\t"))


def test_every_kind_is_there_with_labels_of_its_size():
    found = samples.nuclei()
    kinds = {sample.kind for sample in found}
    assert len(kinds) == len(found) == 9
    for word in ("fluorescence_small", "fluorescence_large", "stained_purple", "stained_pink_white", "bright_field"):
        assert any(kind.startswith(word) for kind in kinds)
    for sample in [*found, *samples.cells("train"), *samples.cells("val")]:
        assert sample.image.shape[:2] == sample.labels.shape and sample.image.shape[2:] in ((), (3,))
        assert (sample.image.dtype, sample.labels.dtype) == (np.uint8, np.uint16)
        assert np.array_equal(np.unique(sample.labels), np.arange(sample.labels.max() + 1))
    assert {(s.license, s.source.partition(",")[0]) for s in found} == {("CC0-1.0", "BBBC038v1")}


def test_cells_are_as_many_as_the_docstring_says_apart_and_with_their_license():
    train, val = samples.cells("train"), samples.cells("val")
    assert [(len(part), sum(int(s.labels.max()) for s in part)) for part in (train, val)] == [(6, 170), (3, 93)]
    assert len({s.source.partition(", its pixels")[0] for s in [*train, *val]}) == 9
    assert {s.license for s in [*train, *val]} == {"MIT"} and "Permission" in (ROOT / "cells/LICENSE").read_text()
    with pytest.raises(ValueError, match="splits train and val, not 'test'"):
        samples.cells("test")


def test_all_are_on_the_card_and_the_nuclei_of_the_validation_split():
    assert {row["id"] for row in rows() if row["set"] == "bbbc038"} <= set(read_split_ids("val"))
    card = (ROOT / "README.md").read_text()
    for row in rows():
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {row['name']} |")]
        labels = np.asarray(Image.open(ROOT / row["folder"] / "labels" / f"{row['name']}.png"))
        assert f"`{row['id']}`" in line and f"| {labels.max()} | {labels.shape[0]} x {labels.shape[1]} |" in line
        assert not row["set"] == "usiigaci" or row["crop"] in line


def test_folders_hold_all_files_and_are_small():
    for name in FOLDERS:
        names = sorted(row["name"] for row in rows() if row["folder"] == name)
        for kind in ("images", "labels"):
            assert sorted(path.stem for path in (samples.folder(name) / kind).iterdir()) == names
    assert sum(path.stat().st_size for path in ROOT.rglob("*.png")) < 2e6
    with pytest.raises(ValueError, match="no samples 'leaves'; the folders are nuclei, "):
        samples.folder("leaves")


def test_folder_of_cells_is_a_source_for_prepare(tmp_path):
    notes = convert_labelmaps(samples.folder("cells"), samples.folder("cells"), tmp_path / "cells")
    assert notes.num_left_out == 0
    content = read_split(tmp_path / "cells", "val")
    assert len(content["images"]) == 3 and len(read_split(tmp_path / "cells", "train")["images"]) == 6
    sample = samples.cells("val")[0]
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
        if row["set"] != "bbbc038":
            continue
        x1, y1, x2, y2 = (int(n) for n in row["crop"].split(",")) if row["crop"] else (0, 0, None, None)
        real = cv2.imread(str(folder / f"{row['id']}.png"))[y1:y2, x1:x2]
        assert np.array_equal(cv2.imread(str(ROOT / row["folder"] / "images" / f"{row['name']}.png")), real)
