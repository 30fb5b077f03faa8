"""Regions of a resized image equal those of Pillow's whole one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from objguided_d2.inference import resample
from objguided_d2.inference.resample import resize_region


@settings(max_examples=30)
@given(st.data(), st.integers(8, 120), st.integers(8, 120), st.floats(0.15, 3.0), st.integers(0, 2**31))
def test_a_region_holds_what_the_whole_resized_image_holds(data, height, width, scale, seed):
    if height > 2 * width:  # Pillow's order of the two passes, see the module.
        height = width
    size = max(1, round(height * scale)), max(1, round(width * scale))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    whole = np.asarray(Image.fromarray(image).resize(size[::-1], Image.BILINEAR))
    y0, x0 = (data.draw(st.integers(0, side - 1)) for side in size)
    y1, x1 = (data.draw(st.integers(low + 1, side)) for low, side in zip((y0, x0), size))

    region = resize_region(lambda *w: image[w[0] : w[2], w[1] : w[3]], (height, width), size, (y0, x0, y1, x1))

    by_rows = np.asarray(
        Image.fromarray(image).resize((size[1], height), Image.BILINEAR).resize(size[::-1], Image.BILINEAR)
    )
    np.testing.assert_array_equal(region, by_rows[y0:y1, x0:x1])
    assert np.abs(region.astype(int) - whole[y0:y1, x0:x1]).max() <= 1


def test_images_that_keep_their_aspect_equal_pillow_exactly():
    image = np.random.default_rng(1).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    for size in ((61, 82), (142, 192), (97, 131), (30, 40)):
        whole = np.asarray(Image.fromarray(image).resize(size[::-1], Image.BILINEAR))
        region = resize_region(lambda *w: image[w[0] : w[2], w[1] : w[3]], (97, 131), size, (0, 0, *size))
        np.testing.assert_array_equal(region, whole)


def test_only_the_pixels_that_a_region_depends_on_are_read():
    windows = []

    def read(*window):
        windows.append(window)
        y0, x0, y1, x1 = window
        return np.zeros((y1 - y0, x1 - x0, 1), np.uint8)

    resize_region(read, (1000, 1000), (500, 500), (100, 200, 110, 220))
    ((y0, x0, y1, x1),) = windows
    assert (y0, y1) == (199, 221) and (x0, x1) == (399, 441)


def test_a_region_of_many_source_pixels_is_read_in_parts_with_the_same_result(monkeypatch):
    image = np.random.default_rng(2).integers(0, 256, (400, 3000, 3), dtype=np.uint8)
    windows = []

    def read(*window):
        windows.append(window)
        return image[window[0] : window[2], window[1] : window[3]]

    whole = resize_region(read, (400, 3000), (25, 188), (3, 5, 25, 188))
    monkeypatch.setattr(resample, "MOST_PIXELS", 20_000)
    monkeypatch.setattr(resample, "_FEW_ROWS", 100)
    np.testing.assert_array_equal(resize_region(read, (400, 3000), (25, 188), (3, 5, 25, 188)), whole)
    assert len(windows) > 30 and max((y1 - y0) * (x1 - x0) for y0, x0, y1, x1 in windows[1:]) <= 20_000
    assert all(50 < y1 - y0 <= 100 for y0, _, y1, _ in windows[1:])
