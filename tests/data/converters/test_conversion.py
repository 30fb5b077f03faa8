"""Listing of sources and the summary of odd files (damaged files are tested with each converter)."""

import zipfile

import pytest

from objguided_d2.data.converters.conversion import ConversionNotes, open_source
from objguided_d2.data.source_error import SourceError


def test_folder_and_zip_list_and_read_the_same(tmp_path):
    folder = tmp_path / "folder"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "2.txt").write_text("two")
    (folder / "a.txt").write_text("one")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("b")
        archive.write(folder / "b" / "2.txt", "b/2.txt")
        archive.write(folder / "a.txt", "a.txt")
    for source in (folder, tmp_path / "a.zip"):
        names, read = open_source(source)
        assert names == ["a.txt", "b/2.txt"]
        assert [read(name) for name in names] == [b"one", b"two"]


def test_missing_source_is_named(tmp_path):
    with pytest.raises(SourceError, match="nowhere does not exist; give"):
        open_source(tmp_path / "nowhere")


def test_notes_count_all_and_name_the_first():
    notes = ConversionNotes()
    for i in range(7):
        notes.add("odd", f"{i}.png")
    notes.add("even", "x.png")
    assert str(notes).splitlines() == [
        "even: 1", "  x.png", "odd: 7", "  0.png", "  1.png", "  2.png", "  3.png", "  4.png", "  ... and 2 more"
    ]  # fmt: skip
