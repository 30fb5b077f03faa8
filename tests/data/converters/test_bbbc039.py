"""BBBC039 in the layouts of the Broad and of a repository: pieces of values, images of DSB2018, micronuclei."""

import zipfile
from importlib import resources

import cv2
import numpy as np
import pytest

from objguided_d2.cli import main
from objguided_d2.data.converters import dsb2018
from objguided_d2.data.converters.bbbc039 import convert_bbbc039
from objguided_d2.data.converters.dsb2018 import read_names_in_dsb2018, read_split_ids
from objguided_d2.data.source_error import SourceError
from tests.data.sources import HEIGHT, WIDTH, labels, masks_of, random_image, read_split, write

# Two touching nuclei have values 1 and 2; one apart has 1 again, its halves meet in a corner; the last is small.
VALUES = labels((2, 3, 10, 9), (10, 3, 16, 12))
VALUES[14:18, 20:25] = VALUES[18:22, 25:33] = 1
VALUES[1:3, 36:39] = 3


def write_sample(folder, name, values=VALUES, high=4095):
    write(folder / "images" / f"{name}.tif", random_image(HEIGHT, WIDTH, dtype=np.uint16) // (65536 // (high + 1)))
    opaque = np.full_like(values, 255)
    path = folder / "masks" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), np.dstack([0 * values, 0 * values, values, opaque]))


@pytest.fixture
def source(tmp_path):
    """A folder, whose first image is said to be in DSB2018 as well."""
    known, *_ = sorted(read_names_in_dsb2018("bbbc039"))
    for name in (known, "IXMtest_B01", "IXMtest_Z01"):
        write_sample(tmp_path / "source", name)
    return tmp_path / "source"


def areas(content, stem):
    return sorted(int(mask.sum()) for mask in masks_of(content, stem))


def test_each_connected_piece_of_each_value_is_a_nucleus(source, tmp_path):
    convert_bbbc039(source, tmp_path / "out" / "bbbc039")
    content = read_split(tmp_path / "out" / "bbbc039", "train")
    assert content["categories"] == [{"id": 1, "name": "nucleus"}]
    assert [image["file_name"] for image in content["images"]] == ["IXMtest_B01.png", "IXMtest_Z01.png"]
    found = masks_of(content, "IXMtest_Z01")
    assert areas(content, "IXMtest_Z01") == [6, 48, 52, 54]
    assert np.array_equal(np.logical_or.reduce(found), VALUES > 0)
    assert any(np.array_equal(mask, VALUES == 2) for mask in found)


def test_sixteen_bits_are_mapped_and_the_mapping_is_kept(source, tmp_path):
    convert_bbbc039(source, tmp_path / "bbbc039", intensity="range:0,4095")
    assert read_split(tmp_path / "bbbc039", "train")["info"]["intensity"] == "range:0,4095"
    written = cv2.imread(str(tmp_path / "bbbc039/train/IXMtest_B01.png"))
    expected = np.rint((random_image(HEIGHT, WIDTH, dtype=np.uint16) // 16) / 4095 * 255)
    assert np.array_equal(written, np.dstack([expected] * 3).astype(np.uint8))


def test_layouts_give_the_same_bytes(source, tmp_path):
    nested = tmp_path / "repository" / "cell nuclei"
    nested.parent.mkdir()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in sorted(source.rglob("*.*"), reverse=True):
            archive.write(file, f"cell nuclei/{file.relative_to(source)}")
        archive.writestr("__MACOSX/cell nuclei/images/._IXMtest_B01.tif", b"?")
    results = []
    for path in (source, tmp_path / "a.zip", nested.parent):
        if path == nested.parent:
            source.rename(nested)
        output = tmp_path / str(len(results)) / "bbbc039"
        convert_bbbc039(path, output)
        results.append({file.relative_to(output): file.read_bytes() for file in output.rglob("*.*")})
    assert len(results[0]) == 4 and results[0] == results[1] == results[2]


def test_images_of_dsb2018_are_taken_on_demand_only(source, tmp_path, capsys):
    known, *_ = sorted(read_names_in_dsb2018("bbbc039"))
    assert convert_bbbc039(source, tmp_path / "bbbc039").num_left_out == 0
    assert f"also in DSB2018, not taken (--keep-dsb2018 takes it): 1\n  {known}" in capsys.readouterr().out
    convert_bbbc039(source, tmp_path / "bbbc039", keep_dsb2018=True)
    assert len(read_split(tmp_path / "bbbc039", "train")["images"]) == 3


def test_small_objects_become_a_region_to_ignore(source, tmp_path):
    convert_bbbc039(source, tmp_path / "bbbc039", min_area=7)
    content = read_split(tmp_path / "bbbc039", "train")
    assert areas(content, "IXMtest_B01") == [48, 52, 54]
    (crowd,) = masks_of(content, "IXMtest_B01", crowd=1)
    assert np.array_equal(crowd, VALUES == 3)


def test_unpaired_and_unfitting_files_are_named(source, tmp_path, capsys):
    write(source / "images" / "alone.tif", random_image(HEIGHT, WIDTH, dtype=np.uint16))
    write(source / "masks" / "orphan.png", VALUES)
    write_sample(source, "turned", VALUES.T.copy())
    assert convert_bbbc039(source, tmp_path / "bbbc039").num_left_out == 3
    printed = capsys.readouterr().out
    assert "image without its mask, left out: 1\n  alone" in printed
    assert "mask without its image, left out: 1\n  orphan" in printed
    assert f"masks/turned.png is ({WIDTH}, {HEIGHT}), its image ({HEIGHT}, {WIDTH})" in printed


@pytest.mark.parametrize(
    "kind, message",
    [
        ("empty", "holds no images/<name>.tif with masks/<name>.png; unpack images.zip and masks.zip"),
        ("twice", "holds a twice in images: one/images/a.tif and two/images/a.tif; keep one"),
        ("known", "all 1 images in .* are also in DSB2018; --keep-dsb2018 converts them"),
    ],
)
def test_unusable_source_is_one_line(kind, message, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    if kind == "twice":
        write_sample(folder / "one", "a")
        write_sample(folder / "two", "a")
    elif kind == "known":
        write_sample(folder, min(read_names_in_dsb2018("bbbc039")))
    with pytest.raises(SourceError, match=message):
        convert_bbbc039(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dataset, count", [("bbbc039", 43), ("dsb2018_extra", 4)])
def test_list_of_common_images_names_ids_of_the_papers_splits(dataset, count):
    text = (resources.files(dsb2018.__package__) / "splits" / dataset / "in_dsb2018.tsv").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    rows = [line.split("\t") for line in text.splitlines()[len(comments) :]]
    assert rows[0] == ["image", "dsb2018", "split"]
    assert {name for name, _, _ in rows[1:]} == read_names_in_dsb2018(dataset) and len(rows) == count + 1
    assert all(image_id in read_split_ids(split) for _, image_id, split in rows[1:])


def test_command_writes_into_the_datasets_root(source, tmp_path):
    assert main(["prepare", "bbbc039", "--source", str(source), "--output", str(tmp_path), "--min-area", "7"]) == 0
    assert read_split(tmp_path / "bbbc039", "train")["info"] == {"intensity": "percentile:0.1,99.9", "min_area": "7"}
    assert main(["prepare", "bbbc039", "--source", str(source), "--output", str(tmp_path), "--intensity", "x"]) == 1
