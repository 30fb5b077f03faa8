"""Files of one output are told by their names and frames, before any is predicted."""

from pathlib import Path

import numpy as np
import tifffile

from objguided_d2.inference import clashes
from objguided_d2.inference.clashes import find_clashes
from objguided_d2.inference.file_pipeline import PredictSettings
from objguided_d2.inference.records import FOLDER


def clashing(folder, *names, pages=1, save=("labels",)):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, np.zeros((pages, 8, 9), np.uint8), photometric="minisblack")
    files = [(folder / name, Path(name)) for name in names]
    return {str(name) for name in find_clashes(files, folder / "out", PredictSettings(save=save))}


def test_a_name_that_is_a_frame_of_another_file(tmp_path):
    names = ("x/a.tif", "x/a_p001.tif", "x/a_b.tif", "a_p001.tif")
    # The pages of a_p001.tif are a_p001_p000 and a_p001_p001.
    assert clashing(tmp_path, *names, pages=2) == set()
    tifffile.imwrite(tmp_path / "x" / "a_p001.tif", np.zeros((8, 9), np.uint8))
    files = [(tmp_path / name, Path(name)) for name in names]
    assert {*find_clashes(files, tmp_path / "out", PredictSettings())} == {Path("x/a_p001.tif")}
    assert not find_clashes(files, tmp_path / "out", PredictSettings(frames=0))


def test_a_file_that_has_outputs_keeps_them(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 8, 9), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "a_p001.tif", np.zeros((8, 9), np.uint8))
    files = [(tmp_path / name, Path(name)) for name in ("a.tif", "a_p001.tif")]
    (tmp_path / "out" / FOLDER).mkdir(parents=True)
    (tmp_path / "out" / FOLDER / "a_p001.tif.json").write_text("{}")
    ((name, reason),) = find_clashes(files, tmp_path / "out", PredictSettings()).items()
    assert name == Path("a.tif")
    assert reason.startswith("a_p001.csv would be an output of a_p001.tif and of a.tif; rename one of them")


def test_masks_of_one_number_and_folders_named_as_a_file(tmp_path):
    names = ("1.tif", "t001.tif", "s/t001.tif", "s.tif", "s/000.tif", "t002.tif")
    assert clashing(tmp_path, *names) == set()
    assert clashing(tmp_path, *names, save=("ctc",)) == {"t001.tif", "s/000.tif"}


def test_pictures_and_names_that_rule_it_out_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(clashes, "open_frames", lambda *args: 1 / 0)
    for name in ("a.png", "a_p000.png"):
        (tmp_path / name).write_bytes(b"whatever")
    names = ("a.png", "a_p000.png", "b.tif", "b2.tif", "c_1.tif", "c_2.tif")
    assert not find_clashes([(tmp_path / name, Path(name)) for name in names], tmp_path, PredictSettings())
