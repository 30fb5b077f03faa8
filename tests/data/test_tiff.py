"""TIFF files as their tags say: nothing is taken for RGB, or for the only plane, in silence."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from objguided_d2.data.pixels import read_image_pixels, read_label_pixels
from objguided_d2.data.source_error import SourceError
from objguided_d2.data.tiff import upright
from tests.data.sources import random_image


def encoded(array, **kwargs):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **kwargs)
    return file.getvalue()


def pages(*arrays, **kwargs):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for array in arrays:
            writer.write(array, **kwargs)
    return file.getvalue()


def read(data):
    return read_image_pixels(lambda _: data, "a.tif")


GRAY, COLOR = random_image(24, 40), random_image(24, 40, 3)

# A file, and the array that its tags say.
READ = {
    "gray": (encoded(GRAY), GRAY),
    "gray of 16 bits": (encoded(GRAY.astype(np.uint16) * 200), GRAY.astype(np.uint16) * 200),
    "big endian": (encoded(GRAY.astype(np.uint16), byteorder=">"), GRAY.astype(np.uint16)),
    "BigTIFF": (encoded(GRAY, bigtiff=True), GRAY),
    "RGB": (encoded(COLOR, photometric="rgb"), COLOR),
    "RGB in planes": (encoded(np.moveaxis(COLOR, -1, 0), photometric="rgb", planarconfig="separate"), COLOR),
    "RGB with alpha": (encoded(np.dstack([COLOR, GRAY]), photometric="rgb", extrasamples=["unassalpha"]), COLOR),
    "gray with alpha": (
        encoded(np.dstack([GRAY, GRAY]), photometric="minisblack", planarconfig="contig", extrasamples=["assocalpha"]),
        GRAY,
    ),
    "0 is white": (encoded(GRAY, photometric="miniswhite"), 255 - GRAY),
    "0 is white, 16 bits": (encoded(GRAY.astype(np.uint16), photometric="miniswhite"), 65535 - GRAY.astype(np.uint16)),
    "axes of length 1": (encoded(GRAY[None, None], ome=True, metadata={"axes": "ZCYX"}), GRAY),
    "ImageJ": (encoded(GRAY, imagej=True), GRAY),
    "thumbnail beside it": (pages(GRAY, GRAY[::4, ::4]), GRAY),
    "JPEG": None,
}


def _jpeg():
    smooth = np.broadcast_to(np.linspace(0, 255, 48).astype(np.uint8)[:, None, None], (48, 64, 3)).copy()
    return encoded(smooth, photometric="rgb", compression="jpeg", compressionargs={"level": 98}), smooth


@pytest.mark.parametrize("kind", READ)
def test_image_is_what_the_tags_say(kind):
    data, expected = READ[kind] or _jpeg()
    pixels = read(data)
    assert pixels.dtype == expected.dtype and pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= (8 if READ[kind] is None else 0)


def test_color_map_is_looked_up_for_images_and_not_for_labels():
    colors = np.random.default_rng(0).integers(0, 256, (3, 256), dtype=np.uint16) * 257
    data = encoded(GRAY, photometric="palette", colormap=colors)
    assert np.array_equal(read(data), np.moveaxis(colors // 257, 0, -1)[GRAY])
    assert np.array_equal(read_label_pixels(lambda _: data, "a.tif"), GRAY)
    grays = np.stack([np.arange(255, -1, -1, dtype=np.uint16) * 257] * 3)
    assert np.array_equal(read(encoded(GRAY, photometric="palette", colormap=grays)), 255 - GRAY)


def test_labels_are_the_stored_values_whatever_white_means():
    data = encoded((GRAY > 128), photometric="miniswhite")
    assert np.array_equal(read_label_pixels(lambda _: data, "a.tif"), GRAY > 128)
    assert np.array_equal(read(data), GRAY <= 128)


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
def test_other_colors_are_converted(mode):
    file = io.BytesIO()
    Image.fromarray(COLOR).convert("RGB" if mode == "LAB" else mode).save(file, "TIFF")
    assert read(file.getvalue()).shape == (24, 40, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_as_pillow_does(orientation):
    image = Image.fromarray(COLOR)
    image.getexif()[0x0112] = orientation
    assert np.array_equal(upright(COLOR, orientation), np.array(ImageOps.exif_transpose(image)))
    data = encoded(COLOR, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    assert np.array_equal(read(data), upright(COLOR, orientation))


# A file, and what is said of it.
REFUSED = {
    "z stack": (encoded(np.stack([GRAY] * 5), imagej=True, metadata={"axes": "ZYX"}), "5 z slices .axes ZYX"),
    "time series": (encoded(np.stack([GRAY] * 5), imagej=True, metadata={"axes": "TYX"}), "5 time points .axes TYX"),
    "three channels": (encoded(np.stack([GRAY] * 3), imagej=True, metadata={"axes": "CYX"}), "3 channels .axes CYX"),
    "OME": (
        encoded(np.zeros((2, 3, 24, 40), np.uint8), ome=True, metadata={"axes": "ZCYX"}),
        "2 z slices x 3 channels .axes ZCYX",
    ),
    "three gray samples": (
        encoded(COLOR, photometric="minisblack", planarconfig="contig"),
        "3 channels that its tags do not name",
    ),
    "pages": (encoded(np.stack([GRAY] * 6)), "6 planes .axes QYX"),
    "pages of RGB": (encoded(np.stack([COLOR] * 2), photometric="rgb"), "2 planes x 3 samples per pixel"),
    "two images of one size": (pages(GRAY, GRAY.astype(np.uint16)), "holds 2 images"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_single_image_is_refused_with_its_axes(kind):
    data, message = REFUSED[kind]
    with pytest.raises(SourceError, match=rf"a.tif.*{message}.*save the slice, frame or channel to be segmented"):
        read(data)


@pytest.mark.parametrize("bigtiff", [False, True])
def test_pages_that_run_in_a_circle_are_refused_and_not_followed(bigtiff):
    count, offset, tag, start = ("<Q", "<Q", 20, 8) if bigtiff else ("<H", "<I", 12, 4)
    data = bytearray(encoded(GRAY, bigtiff=bigtiff))
    (first,) = struct.unpack_from(offset, data, start)
    (num_tags,) = struct.unpack_from(count, data, first)
    struct.pack_into(offset, data, first + struct.calcsize(count) + tag * num_tags, first)
    with pytest.raises(SourceError, match="a.tif is damaged: its pages run in a circle"):
        read(bytes(data))
