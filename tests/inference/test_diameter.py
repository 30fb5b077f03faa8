"""The window that a diameter is estimated in."""

import numpy as np
import pytest
from scipy import ndimage

from objguided_d2.inference import diameter as diameter_module
from objguided_d2.inference.diameter import estimate_diameter
from objguided_d2.inference.preparation import ArraySource, Preparation
from tests.inference.models import busy_cfg
from tests.inference.shapes import segmented

SIDE = 32


class Source(ArraySource):
    """Counts the windows that are read of it."""

    def __init__(self, pixels):
        super().__init__(pixels)
        self.windows = []

    def read(self, *window):
        self.windows.append(window)
        return super().read(*window)


def bright_objects(image):
    labels, count = ndimage.label(image.source.pixels > 100)
    return segmented([labels == i for i in range(1, count + 1)])


@pytest.fixture
def estimate(monkeypatch):
    monkeypatch.setattr(diameter_module, "_SIDE", SIDE)
    preparation = Preparation(busy_cfg())
    return lambda source: estimate_diameter(source, None, preparation, bright_objects)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 20, (height, width)).astype(np.uint8)


def test_objects_in_the_center_take_one_window(estimate):
    pixels = noise(100, 150)
    pixels[48:54, 70:76] = 200
    pixels[0:20, 0:20] = 200
    source = Source(pixels)
    assert estimate(source) == pytest.approx(2 * np.sqrt(36 / np.pi))
    assert source.windows == [(34, 59, 66, 91)]


@pytest.mark.parametrize("shape, most", [((50, 60), 5), ((20, 90), 3), ((90, 96), 9)])
def test_objects_at_any_place_are_found_without_any_in_the_center(estimate, shape, most):
    height, width = shape
    for top in (1, height - 7):
        for left in (1, width // 3, width - 7):
            pixels = noise(*shape)
            pixels[top : top + 4, left : left + 4] = 200
            source = Source(pixels)
            assert 2 < estimate(source) <= 2 * np.sqrt(16 / np.pi)
            assert len(source.windows) <= most


def test_nothing_in_any_window_is_no_diameter(estimate):
    source = Source(noise(200, 300))
    assert estimate(source) is None and len(source.windows) == 9
    assert estimate(Source(noise(20, 30))) is None


def test_windows_without_any_contrast_need_no_network(monkeypatch):
    monkeypatch.setattr(diameter_module, "_SIDE", SIDE)
    pixels = np.full((100, 100), np.nan, np.float32)
    nothing = estimate_diameter(Source(pixels), None, Preparation(busy_cfg()), lambda image: pytest.fail("predicted"))
    assert nothing is None
