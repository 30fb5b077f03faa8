"""One error type, and one line that names the file, whatever is wrong with it."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from objguided_d2.data.source_error import SourceError
from objguided_d2.inference.image_source import open_image

GRAY = np.random.default_rng(0).integers(0, 60_000, (64, 80)).astype(np.uint16)


def read(path, **keywords):
    with open_image(path, **keywords) as source:
        return source.read_all()


def assert_refused(path, reason="", **keywords):
    with pytest.raises(SourceError, match=reason or None) as error:
        read(path, **keywords)
    message = str(error.value)
    assert str(path) in message and "\n" not in message


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "webp", "svs"])
def test_empty_files_and_text(tmp_path, ending):
    for number, content in enumerate([b"", b"This is no image.\n" * 50]):
        path = tmp_path / f"{number}.{ending}"
        path.write_bytes(content)
        assert_refused(path)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp"])
def test_cut_off_pictures(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.fromarray((GRAY >> 8).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_refused(path)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "rowsperstrip": 8}, {"tile": (16, 16)}])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_cut_off_tiffs(tmp_path, options, fraction):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    assert_refused(path)


def test_a_stack_that_ends_between_pages(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for _ in range(4):
            writer.write(GRAY, metadata=None, contiguous=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        end = file.pages[2].offset
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:end])
    assert_refused(tmp_path / "a.tif", "cut off after 2 pages")


def test_damaged_tiles(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY, compression="zlib", tile=(16, 16))
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[7]
    data[offset : offset + 20] = b"\x00" * 20
    path.write_bytes(data)
    assert_refused(path)


@pytest.mark.parametrize("seed", range(20))
def test_any_damage_is_an_image_or_one_line(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / ("a.tif" if seed % 2 else "a.png")
    if seed % 2:
        tifffile.imwrite(path, GRAY, compression=["zlib", "lzw", None][seed % 3], rowsperstrip=8)
    else:
        Image.fromarray(GRAY).save(path)
    clean = path.read_bytes()
    for _ in range(15):
        data = bytearray(clean)
        for place in rng.integers(0, min(len(data), 600), 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            read(path)
        except SourceError as error:
            assert str(path) in str(error)


def test_a_folder_named_as_an_image_and_a_loop_of_links(tmp_path):
    (tmp_path / "x.tif").mkdir()
    assert_refused(tmp_path / "x.tif", "is a folder, not an image file")
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert_refused(tmp_path / "a.png", "cannot be opened")
    assert_refused(tmp_path / "none.png", "cannot be opened: No such file")


def test_an_image_of_no_pixels_or_of_complex_values(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY, compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(0)
    assert_refused(path)
    tifffile.imwrite(path, GRAY.astype(np.complex64))
    assert_refused(path, "holds complex64 values")


def test_other_endings_are_named(tmp_path):
    (tmp_path / "a.czi").write_bytes(b"x")
    assert_refused(tmp_path / "a.czi", "has an ending that no reader knows; known are .png")


def test_pictures_and_strips_of_too_many_pixels_are_refused_up_to_a_limit_that_can_be_raised(tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.png"
    Image.new("1", (1, 1)).save(bomb)
    data = bytearray(bomb.read_bytes())
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    bomb.write_bytes(data)
    assert_refused(bomb, "pixels")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY, compression="zlib", rowsperstrip=64)
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", "5119")
    assert_refused(path, "5,120 pixels in one piece, more than 5,119")
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", "5120")
    assert np.array_equal(read(path)[..., 0], GRAY)


def test_a_huge_image_in_tiles_is_no_bomb(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY, compression="zlib", tile=(16, 16))
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", "256")
    with open_image(path) as source:
        assert np.array_equal(source.read(30, 40, 50, 60)[..., 0], GRAY[30:50, 40:60])


def test_interrupts_pass(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", GRAY)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tifffile, "TiffFile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read(tmp_path / "a.tif")
