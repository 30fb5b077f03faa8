"""The image beside its objects: an array, or an open source of which windows are read."""

from typing import Protocol

import numpy as np


class WindowSource(Protocol):
    """What :class:`~objguided_d2.inference.image_source.ImageSource` gives."""

    shape: tuple[int, int]

    def read(self, y0: int, x0: int, y1: int, x1: int) -> np.ndarray: ...


Image = np.ndarray | WindowSource


def crop(image: Image, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
    """(y1 - y0, x1 - x0, C) pixels of (H, W), (H, W, C) or a source."""
    if isinstance(image, np.ndarray):
        return image[y0:y1, x0:x1].reshape(y1 - y0, x1 - x0, -1)
    return image.read(y0, x0, y1, x1).reshape(y1 - y0, x1 - x0, -1)


def channel_names(image: Image) -> tuple[str, ...]:
    """Names of the C channels: those of the source, or numbers."""
    names = getattr(image, "channel_names", None)
    return tuple(str(i) for i in range(crop(image, 0, 0, 1, 1).shape[2])) if names is None else tuple(names)


def check_shape(image: Image, shape: tuple[int, int]) -> None:
    """Check that image and objects belong together.

    Raises:
        ValueError: if the image is no (H, W) or (H, W, C) of ``shape``.
    """
    found = tuple(image.shape[:2])
    if found != tuple(shape) or (isinstance(image, np.ndarray) and image.ndim not in (2, 3)):
        raise ValueError(f"an image of shape {tuple(image.shape)} is not the one of objects in {shape[0]} x {shape[1]}")
