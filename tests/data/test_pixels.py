import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from objguided_d2.data.intensity import IntensityMapping
from objguided_d2.data.pixels import read_image, read_image_pixels, read_label_pixels, read_picture
from objguided_d2.data.source_error import SourceError
from tests.data.sources import random_image, write


def read(name):
    return Path(name).read_bytes()


@pytest.mark.parametrize("ending", ["png", "bmp", "tif"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_8_bit_images_come_as_they_are(tmp_path, ending, shape):
    image = random_image(*shape)
    assert np.array_equal(read_image_pixels(read, str(write(tmp_path / f"a.{ending}", image))), image)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_16_bit_images_keep_their_depth(tmp_path, ending, shape):
    image = random_image(*shape, dtype=np.uint16)
    pixels = read_image_pixels(read, str(write(tmp_path / f"a.{ending}", image)))
    assert pixels.dtype == np.uint16 and np.array_equal(pixels, image)


def test_alpha_is_dropped_and_channels_first_tiff_is_turned(tmp_path):
    rgba = random_image(9, 7, 4)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(read_image_pixels(read, str(tmp_path / "a.png")), rgba[..., :3])
    planes = np.moveaxis(random_image(9, 7, 3), -1, 0)
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image_pixels(read, str(tmp_path / "b.tif")), random_image(9, 7, 3))


def test_palette_gives_colors_of_images_and_indices_of_labels(tmp_path):
    indices = np.array([[0, 1], [2, 3]], np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_label_pixels(read, str(tmp_path / "a.png")), indices)
    assert read_image_pixels(read, str(tmp_path / "a.png"))[1].tolist() == [[0, 255, 0], [0, 0, 255]]


def test_camera_orientation_is_applied(tmp_path):
    image = Image.fromarray(random_image(8, 16, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image_pixels(read, str(tmp_path / "a.jpg")).shape == (16, 8, 3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.float32])
def test_labels_of_every_depth(tmp_path, dtype):
    labels = (np.arange(12).reshape(3, 4) * 20).astype(dtype)
    found = read_label_pixels(read, str(write(tmp_path / "a.tif", labels)))
    assert found.dtype.kind in "iu" and np.array_equal(found, labels)


def test_colors_of_a_label_image_are_objects(tmp_path):
    colors = np.zeros((2, 3, 3), np.uint8)
    colors[0, 1], colors[1, 1], colors[1, 2] = (255, 0, 0), (255, 0, 0), (0, 0, 1)
    labels = read_label_pixels(read, str(write(tmp_path / "a.png", colors)))
    assert labels[0, 1] == labels[1, 1] != labels[1, 2] and labels[1, 2] != 0
    assert labels[0, 0] == 0


def test_colors_of_one_bit_and_of_more_than_sixteen_as_labels(tmp_path):
    colors = np.zeros((2, 3, 3), bool)
    colors[0, 1] = True, False, True
    tifffile.imwrite(tmp_path / "a.tif", colors, photometric="rgb")
    labels = read_label_pixels(read, str(tmp_path / "a.tif"))
    assert labels.shape == (2, 3)
    path = tmp_path / "b.tif"
    tifffile.imwrite(path, np.full((2, 3, 3), 70000, np.uint32), photometric="rgb")
    with pytest.raises(SourceError, match="b.tif holds colors of more than 16 bits"):
        read_label_pixels(read, str(path))


def test_8_bit_image_for_the_network_is_detectron2s(tmp_path):
    image = random_image(9, 7, 3)
    path = str(write(tmp_path / "a.png", image))
    assert np.array_equal(read_image(path, "RGB", None), image)
    assert np.array_equal(read_image(path, "BGR", None), image[..., ::-1])


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_image_for_the_network_needs_a_mapping(tmp_path, ending):
    image = np.linspace(32000, 36000, 60).astype(np.uint16).reshape(6, 10)
    path = str(write(tmp_path / f"a.{ending}", image))
    with pytest.raises(SourceError, match=rf"a.{ending}.*INPUT.INTENSITY"):
        read_image(path, "RGB", None)
    mapped = read_image(path, "BGR", IntensityMapping.parse("range:32000,36000"))
    assert mapped.shape == (6, 10, 3) and mapped.dtype == np.uint8 and (mapped.min(), mapped.max()) == (0, 255)


def test_mapping_for_the_network_is_that_of_preparation(tmp_path):
    image = random_image(20, 30, dtype=np.uint16)
    mapping = IntensityMapping.parse("percentile:1,99")
    prepared = np.repeat(mapping(image)[..., None], 3, axis=2)
    path = tmp_path / "prepared.png"
    cv2.imwrite(str(path), prepared)
    raw = str(write(tmp_path / "raw.tif", image))
    assert np.array_equal(read_image(raw, "RGB", mapping), read_image(str(path), "RGB", None))


def damaged(data, start=40, length=200):
    return data[:start] + b"\xff" * length + data[start + length :]


def encode(image, ending, **kwargs):
    file = io.BytesIO()
    Image.fromarray(image).save(file, ending, **kwargs)
    return file.getvalue()


def lzw():
    file = io.BytesIO()
    tifffile.imwrite(file, random_image(90, 90), compression="lzw")
    return damaged(file.getvalue(), 3000)


JPEG = encode(random_image(64, 64, 3), "JPEG")
DAMAGED = {
    "nothing": b"",
    "text": b"not an image",
    "LZW": lzw(),
    "JPEG cut off": JPEG[: len(JPEG) // 2],
    "PNG": damaged(encode(random_image(64, 64, 3), "PNG"), 100),
    "PNG of 16 bits cut off": cv2.imencode(".png", random_image(64, 64, 3, dtype=np.uint16))[1].tobytes()[:900],
    "JPEG 2000": encode(random_image(64, 64, 3), "JPEG2000")[:300],
    "WebP": encode(random_image(64, 64, 3), "WEBP")[:200],
    "TIFF of two bytes": b"II*\x00\x08\x00",
    "animation": encode(
        random_image(9, 9), "GIF", save_all=True, append_images=[Image.fromarray(random_image(9, 9) // 2)]
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("reader", [read_image_pixels, read_label_pixels])
def test_damaged_file_of_any_kind_is_a_source_error_that_names_it(kind, reader):
    with pytest.raises(SourceError, match="a.tif"):
        reader(lambda _: DAMAGED[kind], "a.tif")


def test_contents_and_not_the_ending_tell_the_format(tmp_path):
    image = random_image(9, 7, 3)
    assert np.array_equal(read_image_pixels(lambda _: encode(image, "PNG"), "a.tif"), image)
    path = write(tmp_path / "a.tif", image)
    assert np.array_equal(read_image_pixels(lambda _: path.read_bytes(), "a.png"), image)


@pytest.mark.parametrize("ending", ["PNG", "TIFF", "JPEG2000"])
def test_file_that_claims_too_many_pixels_is_refused_with_a_limit_that_can_be_raised(monkeypatch, ending):
    data = encode(np.zeros((100, 120), np.uint8), ending)
    assert read_image_pixels(lambda _: data, "a.png").shape == (100, 120)
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", "11999")
    with pytest.raises(SourceError, match="a.png claims 12,000 pixels, more than 11,999; cut it .*MAX_PIXELS"):
        read_image_pixels(lambda _: data, "a.png")


def test_pillows_own_limit_follows_ours(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", "2000")
    data = encode(np.zeros((100, 120), np.uint8), "PNG")
    with pytest.raises(SourceError, match="a.png claims 12,000 pixels"):
        read_image_pixels(lambda _: data, "a.png")
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", "12000")
    assert read_image_pixels(lambda _: data, "a.png").shape == (100, 120)


@pytest.mark.parametrize("text", ["many", "-3", "0"])
def test_limit_that_is_no_number_is_told(monkeypatch, text):
    monkeypatch.setenv("OBJGUIDED_D2_MAX_PIXELS", text)
    with pytest.raises(SourceError, match="OBJGUIDED_D2_MAX_PIXELS is"):
        read_image_pixels(lambda _: encode(np.zeros((9, 9), np.uint8), "PNG"), "a.png")


@pytest.mark.parametrize("values", [[np.nan, 1.0], [np.inf, 1.0], [1e300, 0.0], [0.5, 1.0]])
def test_float_labels_that_are_no_whole_numbers_are_refused(tmp_path, values):
    path = write(tmp_path / "a.tif", np.array([values] * 2))
    with pytest.raises(SourceError, match="a.tif holds fractions"):
        read_label_pixels(read, str(path))


def test_preview_of_a_camera_image_is_not_a_second_frame():
    image = Image.fromarray(random_image(32, 48, 3))
    file = io.BytesIO()
    image.save(file, "MPO", save_all=True, append_images=[image.resize((12, 8))])
    assert read_image_pixels(lambda _: file.getvalue(), "a.jpg").shape == (32, 48, 3)


def test_pictures_of_twelve_bits_and_of_fractions_are_not_black(tmp_path):
    values = np.linspace(0, 4095, 24 * 40).reshape(24, 40)
    for name, pixels in (("deep.tif", values.astype(np.uint16)), ("float.tif", (values / 4095).astype(np.float32))):
        picture = read_picture(write(tmp_path / name, pixels))
        assert picture.shape == (24, 40, 3) and picture.min() == 0 and picture.max() == 255
    plain = random_image(24, 40, 3)
    assert np.array_equal(read_picture(write(tmp_path / "plain.png", plain)), plain)


def test_reason_for_what_is_no_image_is_the_same_every_time(tmp_path):
    with pytest.raises(SourceError, match="it is no image of a known kind"):
        read_image_pixels(lambda name: b"not an image", "text.tif")
