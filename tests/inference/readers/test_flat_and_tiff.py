import numpy as np
import pytest
import tifffile
from PIL import Image

from objguided_d2.data.pixels import read_image_pixels
from objguided_d2.data.source_error import SourceError
from objguided_d2.inference.image_source import open_image

SHAPE = (70, 90)
RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 60_000, SHAPE).astype(np.uint16)
RGB = RNG.integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
WINDOW = (13, 31, 57, 88)


def tiff(tmp_path, array, name="a.tif", **keywords):
    tifffile.imwrite(tmp_path / name, array, **keywords)
    return tmp_path / name


def training_pixels(path):
    pixels = read_image_pixels(lambda name: path.read_bytes(), str(path))
    pixels = pixels.astype(np.uint8) * 255 if pixels.dtype == bool else pixels
    return pixels.reshape(*pixels.shape[:2], -1)


def assert_reads(path, expected, **keywords):
    """The whole image, and a window of it, is (H, W, C) ``expected``."""
    with open_image(path, **keywords) as source:
        assert source.shape == expected.shape[:2] and source.num_channels == expected.shape[2]
        pixels = source.read_all()
        assert pixels.dtype == source.dtype == expected.dtype and np.array_equal(pixels, expected)
        y0, x0, y1, x1 = WINDOW
        assert np.array_equal(source.read(*WINDOW), expected[y0:y1, x0:x1])


@pytest.mark.parametrize(
    "ending, mode",
    [
        *(("png", mode) for mode in ("L", "LA", "RGB", "RGBA", "P", "1")),
        *(("jpg", mode) for mode in ("L", "RGB", "CMYK")),
        *(("bmp", mode) for mode in ("L", "RGB", "P", "1")),
        *(("webp", mode) for mode in ("RGB", "RGBA")),
        *(("jp2", mode) for mode in ("L", "RGB")),
        *(("tif", mode) for mode in ("L", "RGB", "RGBA", "1")),
    ],
)
def test_pictures_have_the_pixels_of_training(tmp_path, ending, mode):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(RGB).convert(mode).save(path, **({"lossless": True} if ending == "webp" else {}))
    assert_reads(path, training_pixels(path))
    with open_image(path) as source:
        assert source.is_color == (mode not in ("L", "LA", "1")) and source.pixel_size is None


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr"])
def test_tiff_of_other_color_spaces_has_pillows_pixels(tmp_path, mode):
    Image.fromarray(RGB).convert(mode).save(tmp_path / "a.tif")
    assert_reads(tmp_path / "a.tif", np.asarray(Image.open(tmp_path / "a.tif").convert("RGB")))


def test_16_bit_png_keeps_its_depth_and_a_photograph_stands_upright(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    assert_reads(tmp_path / "a.png", GRAY[..., None])
    image = Image.fromarray(RGB)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    with open_image(tmp_path / "a.jpg") as source:
        assert source.shape == SHAPE[::-1]


KINDS = {
    "plain": {},
    "big-endian": {"byteorder": ">"},
    "strips": {"rowsperstrip": 7},
    "lzw": {"compression": "lzw", "rowsperstrip": 7},
    "deflate with predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 16},
    "zstd tiles": {"compression": "zstd", "tile": (32, 48)},
    "big-endian tiles": {"compression": "zlib", "tile": (32, 48), "byteorder": ">"},
    "uncompressed tiles": {"tile": (32, 48)},
    "bigtiff": {"bigtiff": True, "tile": (16, 16)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float32, np.float64])
def test_gray_tiff_of_every_depth(tmp_path, kind, dtype):
    array = GRAY.astype(dtype)
    path = tiff(tmp_path, array, **KINDS[kind])
    assert_reads(path, array[..., None])
    assert np.array_equal(training_pixels(path), array[..., None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("num_samples", [3, 4])
def test_color_tiff_drops_alpha(tmp_path, kind, planar, num_samples):
    array = np.concatenate([RGB, RGB[..., :1]], axis=2)[..., :num_samples]
    stored = array if planar == "contig" else np.moveaxis(array, -1, 0)
    path = tiff(tmp_path, stored, photometric="rgb", planarconfig=planar, **KINDS[kind])
    assert_reads(path, RGB)
    assert np.array_equal(training_pixels(path), RGB)


def test_jpeg_tiles_decode_as_whole_files_do(tmp_path):
    smooth = np.repeat(np.repeat(RGB[:9, :12], 8, axis=0), 8, axis=1)[:70, :90]
    path = tiff(tmp_path, smooth, compression="jpeg", photometric="ycbcr", tile=(32, 32), subsampling=(2, 2))
    assert_reads(path, tifffile.imread(path))


def test_white_is_high_whatever_the_file_says(tmp_path):
    assert_reads(tiff(tmp_path, GRAY, photometric="miniswhite"), (65535 - GRAY)[..., None])
    white = RGB[..., 0] > 99
    assert_reads(tiff(tmp_path, white, photometric="miniswhite"), np.where(white, 0, 255).astype(np.uint8)[..., None])


def test_12_bit_tiff_unpacks_to_16(tmp_path):
    array = (GRAY >> 4).astype(np.uint16)
    bits = ((array.reshape(-1, 1) >> np.arange(11, -1, -1)) & 1).astype(np.uint8)
    rows = np.packbits(bits.reshape(SHAPE[0], -1), axis=1)
    path = tiff(tmp_path, array, photometric="miniswhite", rowsperstrip=SHAPE[0])
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        offset = page.dataoffsets[0]
        page.tags["BitsPerSample"].overwrite(12)
        page.tags["StripByteCounts"].overwrite(rows.size)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(rows.tobytes())
    assert_reads(path, (4095 - array)[..., None])


def test_palette_gives_colors_and_a_gray_palette_gray(tmp_path):
    index = RGB[..., 0]
    colors = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    path = tiff(tmp_path, index, photometric="palette", colormap=colors * 257)
    assert_reads(path, colors.T[index].astype(np.uint8))
    gray = np.repeat(np.arange(255, -1, -1, dtype=np.uint16)[None], 3, axis=0)
    assert_reads(tiff(tmp_path, index, photometric="palette", colormap=gray * 257), (255 - index)[..., None])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_windows_as_pillow_turns_images(tmp_path, orientation):
    path = tiff(tmp_path, RGB, tile=(32, 48), compression="zlib", extratags=[(274, 3, 1, orientation, True)])
    image = Image.fromarray(RGB)
    image.getexif()[0x0112] = orientation
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(image))
    with open_image(path) as source:
        assert source.shape == expected.shape[:2] and np.array_equal(source.read_all(), expected)
        assert np.array_equal(source.read(3, 11, 40, 63), expected[3:40, 11:63])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_the_smallest_images(tmp_path, shape):
    array = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    with open_image(tiff(tmp_path, array)) as source:
        assert np.array_equal(source.read_all(), array[..., None])


def test_a_path_with_spaces_and_other_letters_and_floats_with_nan(tmp_path):
    array = GRAY.astype(np.float32)
    array[3, 4] = np.nan
    with open_image(str(tiff(tmp_path, array, name="Zelle µ (1) 細胞.tif"))) as source:
        assert np.array_equal(source.read_all()[..., 0], array, equal_nan=True)


def test_levels_of_a_pyramid(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as writer:
        size = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
        writer.write(RGB, subifds=2, tile=(32, 32), photometric="rgb", metadata=size)
        writer.write(RGB[::2, ::2], subfiletype=1, tile=(32, 32), photometric="rgb")
        writer.write(RGB[::4, ::4], subfiletype=1, tile=(32, 32), photometric="rgb")
    assert_reads(tmp_path / "a.ome.tif", RGB)
    with open_image(tmp_path / "a.ome.tif", level=1) as source:
        assert np.array_equal(source.read_all(), RGB[::2, ::2]) and source.pixel_size == (0.5, 1.0)
        assert source.frames == ()
    with pytest.raises(SourceError, match="no level 3; its levels are 0: 70 x 90, 1: 35 x 45, 2: 18 x 23"):
        open_image(tmp_path / "a.ome.tif", level=3)


def test_only_the_tiles_of_a_window_are_read(tmp_path):
    path = tiff(tmp_path, np.zeros((640, 640), np.uint8), compression="zlib", tile=(64, 64))
    with tifffile.TiffFile(path) as file:
        offsets = file.pages[0].dataoffsets
    with path.open("r+b") as file:
        for number, offset in enumerate(offsets):
            if number != 23:
                file.seek(offset)
                file.write(b"\xff" * 8)
    with open_image(path) as source:
        assert not source.read(130, 195, 190, 250).any()
        with pytest.raises(SourceError, match="a.tif"):
            source.read(120, 195, 190, 250)


@pytest.mark.parametrize(
    "unit, resolution, resolutionunit, expected",
    [
        ("imagej", (4, 2), None, (0.5, 0.25)),
        (None, (20_000, 10_000), "CENTIMETER", (1.0, 0.5)),
        (None, (28.35, 28.35), "CENTIMETER", None),
        (None, (300, 300), "INCH", None),
    ],
)
def test_pixel_size(tmp_path, unit, resolution, resolutionunit, expected):
    more = {"imagej": True, "metadata": {"unit": "um"}} if unit else {}
    path = tiff(tmp_path, GRAY, resolution=resolution, resolutionunit=resolutionunit, **more)
    with open_image(path) as source:
        assert source.pixel_size == (expected and pytest.approx(expected))


def test_sample_is_every_kth_row_and_column(tmp_path, monkeypatch):
    monkeypatch.setattr("objguided_d2.inference.image_source._BLOCK_PIXELS", 400)
    with open_image(tiff(tmp_path, RGB, tile=(16, 16))) as source:
        assert np.array_equal(source.sample(10**6), RGB)
        assert np.array_equal(source.sample(800), RGB[::3, ::3])
        assert source.sample(1).shape == (1, 1, 3)


def test_windows_outside_or_empty_are_refused(tmp_path):
    with open_image(tiff(tmp_path, RGB)) as source:
        for window in [(0, 0, 71, 90), (-1, 0, 5, 5), (5, 5, 5, 9), (0, 0, 5, 91)]:
            with pytest.raises(ValueError, match="is not within the 70 x 90 pixels"):
                source.read(*window)


def test_threads_share_one_source(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with open_image(tiff(tmp_path, RGB, tile=(16, 16), compression="zlib")) as source, ThreadPoolExecutor(8) as pool:
        windows = [(y, x, y + 30, x + 40) for y in range(0, 40, 3) for x in range(0, 50, 3)]
        for (y0, x0, y1, x1), pixels in zip(windows, pool.map(lambda window: source.read(*window), windows)):
            assert np.array_equal(pixels, RGB[y0:y1, x0:x1])
