import h5py
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_util

from objguided_d2.data.converters.plant import convert_plants
from objguided_d2.data.source_error import SourceError
from tests.data.sources import labels, masks_of, random_image, read_split, write

LEAVES = labels((2, 2, 10, 9), (12, 4, 30, 20))


def write_plant(folder, name, leaves=LEAVES, foreground=None, palette=True):
    write(folder / f"{name}_rgb.png", random_image())
    if palette:
        image = Image.fromarray(leaves, mode="P")
        image.putpalette(list(range(256)) * 3)
        image.save(folder / f"{name}_label.png")
    else:
        write(folder / f"{name}_label.png", leaves)
    if foreground is not None:
        write(folder / f"{name}_fg.png", foreground.astype(np.uint8) * 255)


def test_challenge_folders(tmp_path):
    for subset in ("A1", "A4"):
        for number in range(5):
            write_plant(tmp_path / "lsc" / subset, f"plant{number:03d}", foreground=LEAVES > 0)
    convert_plants(tmp_path / "lsc", tmp_path / "out" / "lsc")
    splits = {split: read_split(tmp_path / "out" / "lsc", split) for split in ("train", "val", "test")}
    assert {s: len(c["images"]) for s, c in splits.items()} == {"train": 6, "val": 2, "test": 2}
    # Every subset is in every split.
    assert all({image["subset"] for image in content["images"]} == {"A1", "A4"} for content in splits.values())
    image = splits["val"]["images"][0]
    assert image["file_name"].startswith("A1_plant")
    stem = image["file_name"].removesuffix(".png")
    assert all(np.array_equal(m, LEAVES == i) for i, m in enumerate(masks_of(splits["val"], stem), start=1))
    assert np.array_equal(mask_util.decode(image["foreground"]) > 0, LEAVES > 0)


def test_plant_phenotyping_folder_with_color_labels(tmp_path):
    colors = np.array([(0, 0, 0), (255, 0, 0), (0, 128, 255)], np.uint8)[LEAVES]
    for number in range(3):
        write_plant(tmp_path / "ppd", f"ara2013_plant{number:03d}", colors, palette=False)
    convert_plants(tmp_path / "ppd", tmp_path / "out" / "plant", test_fraction=0)
    content = read_split(tmp_path / "out" / "plant", "val")
    (image,) = content["images"]
    found = masks_of(content, image["file_name"].removesuffix(".png"))
    assert sorted(mask.sum() for mask in found) == sorted([(LEAVES == 1).sum(), (LEAVES == 2).sum()])
    assert image["subset"] == "ara2013" and "foreground" not in image


def test_hdf5_files_of_images_and_truth(tmp_path):
    with (
        h5py.File(tmp_path / "training_images.h5", "w") as images,
        h5py.File(tmp_path / "training_truth.h5", "w") as truth,
    ):
        for number in range(5):
            images[f"A1/plant{number:03d}/rgb"] = random_image(24, 40, 4)
            truth[f"A1/plant{number:03d}/label"] = LEAVES
            truth[f"A1/plant{number:03d}/fg"] = (LEAVES > 0).astype(np.uint8)
        images["A1/plant009/rgb"] = random_image(24, 40, 4)
    convert_plants(tmp_path, tmp_path / "out" / "lsc")
    content = read_split(tmp_path / "out" / "lsc", "train")
    assert len(content["images"]) == 3 and all("foreground" in image for image in content["images"])
    assert len(content["annotations"]) == 6


def test_notes_name_what_is_odd(tmp_path, capsys):
    folder = tmp_path / "A1"
    pieces = LEAVES.copy()
    pieces[20:23, 2:6] = 1
    write_plant(folder, "plant1", pieces, foreground=LEAVES > 0)
    write_plant(folder, "plant2", LEAVES[:-1])
    write(folder / "plant3_rgb.png", random_image())
    notes = convert_plants(folder, tmp_path / "out" / "lsc", val_fraction=0, test_fraction=0)
    assert notes.num_left_out == 2
    printed = capsys.readouterr().out
    assert "plant1, label 1" in printed and "in several pieces" in printed
    assert "plant1 (12 pixels)" in printed and "outside the plant's foreground" in printed
    assert "plant2: image is (24, 40), its labels (23, 40)" in printed
    assert "plant3_rgb.png" in printed and "without its _label.png" in printed


def test_same_input_same_bytes(tmp_path):
    for number in range(4):
        write_plant(tmp_path / "A1", f"plant{number}")
    for run in ("a", "b"):
        convert_plants(tmp_path / "A1", tmp_path / run / "lsc", test_fraction=0)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert files and all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_folder_without_plants(tmp_path):
    write(tmp_path / "src" / "a.png", random_image())
    with pytest.raises(SourceError, match="src holds no pair <name>_rgb.png"):
        convert_plants(tmp_path / "src", tmp_path / "out" / "lsc")
    assert not (tmp_path / "out").exists()
