"""Changes of light, focus and noise that leave every object where it is. Images are uint8."""

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform


class _ImageTransform(Transform):
    """A transform of pixel values alone."""

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation


class GammaTransform(_ImageTransform):
    """255 (v / 255) ** gamma: above 1 darker, under 1 lighter, black and white kept."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        table = np.rint(255 * (np.arange(256) / 255) ** self.gamma).astype(np.uint8)
        return table[img]


class HueTransform(_ImageTransform):
    """Turns the colors of an RGB or BGR image by ``angle`` radians around the gray axis."""

    def __init__(self, angle: float) -> None:
        super().__init__()
        self.angle = angle

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        if img.ndim != 3 or img.shape[2] != 3:
            return img
        axis = np.full(3, 1 / np.sqrt(3)) * self.angle
        return cv2.transform(img, cv2.Rodrigues(axis)[0])


class GaussianBlurTransform(_ImageTransform):
    """Gaussian blur by ``sigma`` pixels."""

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(img, (0, 0), self.sigma).reshape(img.shape) if self.sigma > 0 else img


class GaussianNoiseTransform(_ImageTransform):
    """Normal noise of ``sigma`` gray values, drawn from ``seed``."""

    def __init__(self, sigma: float, seed: int) -> None:
        super().__init__()
        self.sigma, self.seed = sigma, seed

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(self.seed).standard_normal(img.shape, np.float32)
        return np.rint(np.clip(img + self.sigma * noise, 0, 255)).astype(np.uint8)


class RandomGamma(T.Augmentation):
    """Gamma of exp(u), u uniform in +-``strength``: darker as often as lighter."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def get_transform(self, image: np.ndarray) -> Transform:
        return GammaTransform(float(np.exp(np.random.uniform(-self.strength, self.strength))))


class RandomHue(T.Augmentation):
    """Colors turned by an angle uniform in +-``max_angle`` degrees."""

    def __init__(self, max_angle: float) -> None:
        super().__init__()
        self.max_angle = max_angle

    def get_transform(self, image: np.ndarray) -> Transform:
        return HueTransform(np.deg2rad(np.random.uniform(-self.max_angle, self.max_angle)))


class RandomGaussianBlur(T.Augmentation):
    """Blur by a sigma uniform in 0 to ``max_sigma`` pixels."""

    def __init__(self, max_sigma: float) -> None:
        super().__init__()
        self.max_sigma = max_sigma

    def get_transform(self, image: np.ndarray) -> Transform:
        return GaussianBlurTransform(np.random.uniform(0, self.max_sigma))


class RandomGaussianNoise(T.Augmentation):
    """Noise of a sigma uniform in 0 to ``max_sigma`` gray values."""

    def __init__(self, max_sigma: float) -> None:
        super().__init__()
        self.max_sigma = max_sigma

    def get_transform(self, image: np.ndarray) -> Transform:
        return GaussianNoiseTransform(np.random.uniform(0, self.max_sigma), int(np.random.randint(2**31)))


def build_photometric_augmentation(cfg: CfgNode) -> list[T.Augmentation]:
    """What ``INPUT.PHOTOMETRIC`` switches on, in the order in which light, optics and camera act.

    Raises:
        ValueError: for a negative strength, or a brightness, contrast or saturation of 1 or more.
    """
    keys = cfg.INPUT.PHOTOMETRIC
    for name, value in keys.items():
        if value < 0 or (name in ("BRIGHTNESS", "CONTRAST", "SATURATION") and value >= 1):
            raise ValueError(f"INPUT.PHOTOMETRIC.{name} is {value}; it must be 0 or more, and for factors under 1")
    switches = (
        (keys.GAMMA, lambda value: RandomGamma(value)),
        (keys.BRIGHTNESS, lambda value: T.RandomBrightness(1 - value, 1 + value)),
        (keys.CONTRAST, lambda value: T.RandomContrast(1 - value, 1 + value)),
        (keys.SATURATION, lambda value: T.RandomSaturation(1 - value, 1 + value)),
        (keys.HUE, lambda value: RandomHue(value)),
        (keys.BLUR, lambda value: RandomGaussianBlur(value)),
        (keys.NOISE, lambda value: RandomGaussianNoise(value)),
    )
    return [build(value) for value, build in switches if value > 0]
