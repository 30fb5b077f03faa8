"""From pixels of any kind to what the network takes, by the model's own config: the steps of the test mapper."""

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from PIL import Image
from torch import Tensor

from ..data.intensity import DEFAULT, IntensityMapping, to_rgb8
from ..data.transforms import build_augmentation
from .resample import MOST_PIXELS, Region, resize_region

# Percentiles of larger images come from a grid of about so many pixels.
_SAMPLED_PIXELS = 2**24
_BYTE_FORMATS = ("RGB", "BGR", "L")


def as_pixels(image: Any, channel_axis: int | None = None) -> np.ndarray:
    """Check an image and put its channels last.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3) of bool, any integer or any float; with ``channel_axis``, channels there.

    Returns:
        (H, W) or (H, W, 3) in the type of the image.

    Raises:
        ValueError: says what is wrong with anything else.
    """
    if isinstance(image, Image.Image) and "P" in image.mode:
        raise ValueError("a Pillow image with a palette holds numbers of colors; give image.convert('RGB')")
    if np.ma.isMaskedArray(image):
        raise ValueError(
            "what is masked in a masked array would count as it is; give image.filled(0), or another value"
        )
    try:
        pixels = np.asarray(image)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"an image of type {type(image).__name__} cannot be read as an array: {error}") from error
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"an image holds numbers, not {pixels.dtype}; give an integer or float array")
    if pixels.ndim not in (2, 3):
        raise ValueError(
            f"an image of shape {pixels.shape} is neither (H, W) nor (H, W, C); give the planes of a stack one by one"
        )
    if not pixels.size:
        raise ValueError(f"an image of shape {pixels.shape} has no pixels")
    if channel_axis is not None:
        if pixels.ndim != 3 or not -3 <= channel_axis < 3:
            raise ValueError(f"channel_axis={channel_axis} is no axis of channels in an image of shape {pixels.shape}")
        pixels = np.moveaxis(pixels, channel_axis, -1)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3):
        if channel_axis is None and pixels.shape[0] in (1, 3):
            raise ValueError(f"an image of shape {pixels.shape} seems to have its channels first; give channel_axis=0")
        raise ValueError(
            f"an image of shape {np.shape(image)} has {pixels.shape[2]} channels; choose 1 or 3 of them (of RGBA the "
            "first 3)"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        raise ValueError("no value of the image is a finite number")
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


class PixelSource(Protocol):
    """An image of which windows are read, as :class:`.image_source.ImageSource`."""

    shape: tuple[int, int]
    dtype: np.dtype

    def read(self, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
        """Rows y0 to y1 - 1 and columns x0 to x1 - 1, (h, w) or (h, w, C)."""

    def sample(self, max_pixels: int) -> np.ndarray:
        """Every k-th row and column, at most ``max_pixels``."""


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """An image that is ready for the network.

    Attributes:
        source, image: the image to read windows of, and as it was given; None on the way to another process.
        network_size: (height, width) of the whole image in the network.
        intensity: its mapping to 8 bits.
        pixel_size: micrometers per pixel (height, width), None if unknown.
        whole: (C, h, w), None for an image that is predicted in tiles.
    """

    source: PixelSource | None
    image: Any
    network_size: tuple[int, int]
    intensity: IntensityMapping | None
    pixel_size: tuple[float, float] | None
    whole: Tensor | None


class ArraySource:
    """An array in memory as a :class:`PixelSource`.

    Args:
        pixels: (H, W) or (H, W, 3), as :func:`as_pixels` gives.
    """

    pixel_size = None

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape[:2], pixels.dtype

    def read(self, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
        return self.pixels[y0:y1, x0:x1]

    def sample(self, max_pixels: int) -> np.ndarray:
        height, width = self.shape
        step = max(1, math.ceil(math.sqrt(height * width / max_pixels)))
        return self.pixels[::step, ::step]


def _resized(resize: T.Augmentation, height: int, width: int) -> tuple[int, int]:
    # Of an image, the augmentation reads its shape alone.
    transform = resize.get_transform(np.broadcast_to(np.uint8(0), (height, width, 3)))
    return (height, width) if isinstance(transform, T.NoOpTransform) else (transform.new_h, transform.new_w)


class Preparation:
    """What :class:`..data.mapper.InstanceMapper` does to a test image, for arrays and for parts of large images.

    Args:
        resize: Detectron2's augmentation that chooses the size of a test image.
        usual_resize: the one of INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST or TEST_SIZE, whatever else the config says.
        image_format: order of the channels, a format of ``detection_utils.read_image``.
        intensity: how values become 8 bits; None leaves 8-bit images as they are, and others are mapped by
            ``data.intensity.DEFAULT``.
    """

    @configurable
    def __init__(
        self,
        *,
        resize: T.Augmentation,
        usual_resize: T.Augmentation,
        image_format: str,
        intensity: IntensityMapping | None,
    ) -> None:
        self.resize, self.usual_resize = resize, usual_resize
        self.image_format, self.intensity = image_format, intensity

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        usual = cfg.clone()
        usual.defrost()
        usual.INPUT.TEST_SCALE = usual.INPUT.MIN_SCALE_TEST = 0.0
        (resize,), (usual_resize,) = (build_augmentation(one, is_train=False) for one in (cfg, usual))
        return {
            "resize": resize,
            "usual_resize": usual_resize,
            "image_format": cfg.INPUT.FORMAT,
            "intensity": IntensityMapping.parse(cfg.INPUT.INTENSITY) if cfg.INPUT.INTENSITY else None,
        }

    def network_size(self, height: int, width: int, scale: tuple[float, float] | None = None) -> tuple[int, int]:
        """The size that an image gets in the network.

        Args:
            scale: factors of height and width; None takes the config's size.
        """
        if scale is not None:
            return tuple(max(1, math.floor(side * s + 0.5)) for side, s in zip((height, width), scale))
        return _resized(self.resize, height, width)

    def usual_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which an image has as many objects as the config's limits are made for: INPUT.MIN_SIZE_TEST and
        MAX_SIZE_TEST or TEST_SIZE alone give it, where the config may keep large images larger."""
        return _resized(self.usual_resize, height, width)

    def intensity_of(self, source: PixelSource) -> IntensityMapping | None:
        """The mapping of one image, its percentiles turned into values: those of the whole image, of large ones from
        a grid of its pixels.

        Returns:
            a mapping that can be applied to parts of the image; None for 8-bit images of a model without a mapping.
        Raises:
            ValueError: if no value is finite.
        """
        mapping = self.intensity
        if mapping is None:
            if np.dtype(source.dtype) in (np.uint8, np.bool_):
                return None
            mapping = IntensityMapping.parse(DEFAULT)
        if mapping.kind != "percentile":
            return mapping
        values = as_pixels(source.sample(_SAMPLED_PIXELS))
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if values.dtype == bool:
            finite = values.astype(np.uint8) * 255
        return IntensityMapping("range", *np.percentile(finite, [mapping.low, mapping.high]))

    def to_network_values(self, pixels: np.ndarray, mapping: IntensityMapping | None) -> np.ndarray:
        """(H, W) or (H, W, 3) of any type -> (H, W, C) in the network's channel order; NaN becomes black."""
        if pixels.dtype == bool:
            pixels = pixels.astype(np.uint8) * 255
        if pixels.dtype.kind == "f" and mapping is not None:
            pixels = np.nan_to_num(pixels, nan=mapping.low, posinf=mapping.high, neginf=mapping.low)
        return detection_utils.convert_PIL_to_numpy(Image.fromarray(to_rgb8(pixels, mapping)), self.image_format)

    def whole(self, source: PixelSource, mapping: IntensityMapping | None, size: tuple[int, int]) -> Tensor:
        """The network's input for a whole image: (C, h, w) of ``size``."""
        height, width = source.shape
        # Pillow resizes each row before the columns, so rows can come in bands: conversion takes 30 bytes a pixel.
        in_bands = height * width > MOST_PIXELS and self.image_format in _BYTE_FORMATS
        step = max(1, MOST_PIXELS // width) if in_bands else height
        bands = []
        for y0 in range(0, height, step):
            y1 = min(y0 + step, height)
            # Without as_pixels: a band of NaN alone is no error in an image that has values elsewhere.
            band = self.to_network_values(_without_single_channel(source.read(y0, 0, y1, width)), mapping)
            bands.append(T.ResizeTransform(y1 - y0, width, y1 - y0, size[1]).apply_image(band) if in_bands else band)
        values = np.concatenate(bands)
        if values.shape[:2] != size:
            values = T.ResizeTransform(*values.shape[:2], *size).apply_image(values)
        return torch.from_numpy(values.transpose(2, 0, 1).copy())

    def part(
        self, source: PixelSource, mapping: IntensityMapping | None, size: tuple[int, int], region: Region
    ) -> Tensor:
        """What :meth:`whole` holds in a region (y0, x0, y1, x1), from the pixels that it depends on.

        Raises:
            ValueError: for a channel format that is not of 8 bits.
        """
        if self.image_format not in _BYTE_FORMATS:
            raise ValueError(f"INPUT.FORMAT {self.image_format} cannot be predicted in tiles; its values are no bytes")

        def read(*window: int) -> np.ndarray:
            return self.to_network_values(_without_single_channel(source.read(*window)), mapping)

        resized = resize_region(read, tuple(source.shape), size, region)
        return torch.from_numpy(resized.transpose(2, 0, 1).copy())


def _without_single_channel(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
