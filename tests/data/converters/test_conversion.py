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


def archive(path, name="a.png", content=b"x" * 1000):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return path


def patch(path, local, central, value):
    """Set a two-byte field of the local and the central header."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = data.find(signature) + offset
        data[at : at + 2] = value.to_bytes(2, "little")
    path.write_bytes(data)
    return path


def test_member_of_an_unknown_compression_is_a_source_error(tmp_path):
    _, read = open_source(patch(archive(tmp_path / "a.zip"), 8, 10, 9))
    with pytest.raises(SourceError, match="a.png is compressed in a way that Python does not unpack.*give the folder"):
        read("a.png")


def test_encrypted_member_is_a_source_error(tmp_path):
    _, read = open_source(patch(archive(tmp_path / "a.zip"), 6, 8, 1))
    with pytest.raises(SourceError, match="a.png is encrypted; unpack .*a.zip with its password"):
        read("a.png")


def test_member_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = archive(tmp_path / "a.zip", content=bytes(100_000))
    assert path.stat().st_size < 1000
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", "1000")
    _, read = open_source(path)
    with pytest.raises(SourceError, match="a.png unpacks to 100,000 bytes, more than 8,000; set OBJ"):
        read("a.png")


def test_backslashes_of_windows_programs_are_folders(tmp_path):
    names, read = open_source(archive(tmp_path / "a.zip", name="b\\a.png", content=b"one"))
    assert names == ["b/a.png"] and read("b/a.png") == b"one"


def test_other_archives_are_named(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    with pytest.raises(SourceError, match="a.tar.gz is an archive of a kind that is not read; unpack it"):
        open_source(tmp_path / "a.tar.gz")


def test_file_that_may_not_be_read_is_a_source_error(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "b.png").write_bytes(b"x")
    names, read = open_source(tmp_path)
    assert names == ["b.png"]
    with pytest.raises(SourceError, match="a.png cannot be read"):
        read("a.png")


def test_what_is_left_out_is_counted_and_listed_in_full():
    notes = ConversionNotes()
    notes.add("odd", "a")
    for i in range(7):
        notes.leave_out(f"{i}.png: broken")
    assert notes.num_left_out == 7 and "... and 2 more" in str(notes)
    assert notes.full_text().splitlines() == [*(f"left out: {i}.png: broken" for i in range(7)), "odd: a"]
