import numpy as np
import pytest

from objguided_d2.config import get_cfg
from objguided_d2.data.photometric import (
    GammaTransform,
    GaussianBlurTransform,
    GaussianNoiseTransform,
    HueTransform,
    build_photometric_augmentation,
)
from tests.data.sources import random_image

IMAGE = random_image(20, 30, 3)


@pytest.mark.parametrize(
    "transform", [GammaTransform(1.5), HueTransform(0.5), GaussianBlurTransform(1.2), GaussianNoiseTransform(8.0, 3)]
)
def test_objects_stay_where_they_are(transform):
    image = transform.apply_image(IMAGE)
    assert image.shape == IMAGE.shape and image.dtype == np.uint8 and not np.array_equal(image, IMAGE)
    labels, points = IMAGE[..., 0], np.array([[1.5, 2.5]])
    assert transform.apply_segmentation(labels) is labels and transform.apply_coords(points) is points
    assert np.array_equal(transform.apply_image(IMAGE), image)


def test_gamma_keeps_black_and_white_and_darkens_above_one():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    darker, same = GammaTransform(2.0).apply_image(ramp), GammaTransform(1.0).apply_image(ramp)
    assert darker[0, 0] == 0 and darker[-1, -1] == 255 and (darker <= ramp).all() and darker[8, 0] == 64
    assert np.array_equal(same, ramp)


def test_hue_keeps_gray_and_turns_red_into_green_by_a_third_of_the_circle():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(HueTransform(0.7).apply_image(gray), gray)
    red = np.array([[[90, 0, 0]]], np.uint8)
    assert HueTransform(2 * np.pi / 3).apply_image(red).tolist() == [[[0, 90, 0]]]
    assert np.array_equal(HueTransform(0.7).apply_image(gray[..., :1]), gray[..., :1])


def test_noise_has_its_size():
    gray = np.full((200, 200, 3), 128, np.uint8)
    noisy = GaussianNoiseTransform(5.0, 0).apply_image(gray).astype(float)
    assert noisy.mean() == pytest.approx(128, abs=0.2) and noisy.std() == pytest.approx(5, rel=0.05)


def test_blur_keeps_light_and_levels_contrast():
    blurred = GaussianBlurTransform(2.0).apply_image(IMAGE).astype(float)
    assert blurred.mean() == pytest.approx(IMAGE.mean(), abs=3) and blurred.std() < IMAGE.std() / 2
    gray = GaussianBlurTransform(1.0).apply_image(IMAGE[..., :1])
    assert gray.shape == (20, 30, 1)


def test_switches():
    cfg = get_cfg()
    assert build_photometric_augmentation(cfg) == []
    for name in cfg.INPUT.PHOTOMETRIC:
        cfg.INPUT.PHOTOMETRIC[name] = 0.5
    names = [type(augmentation).__name__ for augmentation in build_photometric_augmentation(cfg)]
    assert names == [
        "RandomGamma",
        "RandomBrightness",
        "RandomContrast",
        "RandomSaturation",
        "RandomHue",
        "RandomGaussianBlur",
        "RandomGaussianNoise",
    ]
    np.random.seed(0)
    images = [
        augmentation.get_transform(IMAGE).apply_image(IMAGE) for augmentation in build_photometric_augmentation(cfg)
    ]
    assert all(image.shape == IMAGE.shape and image.dtype == np.uint8 for image in images)


@pytest.mark.parametrize(("name", "value"), [("GAMMA", -0.1), ("BRIGHTNESS", 1.0), ("CONTRAST", 2.0), ("NOISE", -1.0)])
def test_values_that_make_no_sense_are_refused(name, value):
    cfg = get_cfg()
    cfg.INPUT.PHOTOMETRIC[name] = value
    with pytest.raises(ValueError, match=f"INPUT.PHOTOMETRIC.{name}"):
        build_photometric_augmentation(cfg)
