import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from objguided_d2.data.source_error import SourceError
from objguided_d2.inference.inputs import list_inputs


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.tif", "sub/c.JPG", "sub/deep/d e é.webp", "notes.txt", ".hidden.png", "sub/.cache/x.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def relatives(inputs):
    return [relative.as_posix() for _, relative in list_inputs(inputs)]


def test_a_folder_gives_its_images_with_their_folders(folder):
    assert relatives([folder]) == ["a.tif", "b.png", "sub/c.JPG", "sub/deep/d e é.webp"]
    assert [path for path, _ in list_inputs([folder])][2] == folder / "sub/c.JPG"


def test_named_files_come_whatever_their_ending_and_once(folder):
    assert relatives([folder / "notes.txt", folder / "b.png", folder / "b.png"]) == ["notes.txt", "b.png"]


def test_globs(folder, monkeypatch):
    assert relatives([str(folder / "*.png")]) == ["b.png"]
    assert relatives([str(folder / "**" / "*.[pJ]*")]) == ["b.png", "sub/c.JPG"]
    assert relatives([str(folder / "s*")]) == ["sub/c.JPG", "sub/deep/d e é.webp"]
    monkeypatch.chdir(folder)
    assert relatives(["sub/*.JPG"]) == ["c.JPG"]
    (folder / "[1].png").write_bytes(b"x")
    assert relatives(["[1].png"]) == ["[1].png"]


def test_loops_of_links_end_and_each_folder_counts_once(folder):
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "self.png").symlink_to(folder / "self.png")
    assert relatives([folder]) == ["a.tif", "b.png", "self.png", "sub/c.JPG", "sub/deep/d e é.webp"]


def test_a_folder_named_as_an_image_is_listed_if_it_holds_none(folder):
    (folder / "x.tif").mkdir()
    (folder / "y.tif").mkdir()
    (folder / "y.tif" / "1.png").write_bytes(b"x")
    assert relatives([folder])[-2:] == ["x.tif", "y.tif/1.png"]


def test_zarr_folders_are_images(folder):
    (folder / "z.zarr" / "0").mkdir(parents=True)
    (folder / "z.zarr" / ".zgroup").write_text("{}")
    (folder / "z.zarr" / "0" / "thumb.png").write_bytes(b"x")
    assert relatives([folder])[-1] == "z.zarr" and relatives([folder / "z.zarr"]) == ["z.zarr"]


def test_names_without_endings_are_unique(tmp_path):
    for name in ("one/a.png", "two/a.png", "one/a.tif", "one/b.png", "one/B.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    found = list_inputs([tmp_path / "one", tmp_path / "two"])
    stems = [str(relative.with_suffix("")).lower() for _, relative in found]
    assert len(found) == 5 and len(set(stems)) == 5
    assert relatives([tmp_path / "one/a.png", tmp_path / "two/a.png"]) == ["one/a.png", "two/a.png"]


@pytest.mark.parametrize("text", ["none.png", "none", "*.none"])
def test_what_is_not_there_is_named(folder, text):
    with pytest.raises(SourceError, match=text.replace("*", r"\*")):
        list_inputs([os.fspath(folder / text)])


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(SourceError, match=f"no image found in {tmp_path}"):
        list_inputs([tmp_path])


def test_listed_images_open(tmp_path):
    from objguided_d2.inference.image_source import open_image

    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    ((path, relative),) = list_inputs([tmp_path])
    with open_image(path) as source:
        assert source.shape == (4, 5) and relative == Path("a.png")
