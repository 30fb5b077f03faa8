"""Geometric augmentation of training images.

Coordinates are Detectron2's: continuous (x, y) in pixels, pixel (row i, column j) covers [j, j + 1) x [i, i + 1), so a
resize scales about the corner (0, 0) of the image and a pixel is sampled at its center, (j + 0.5, i + 0.5).
"""

from collections.abc import Callable

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.data import transforms as T

from .photometric import build_photometric_augmentation

# RELATIVE_TO -> the length, in pixels, of an image of (height, width) that the factor multiplies.
_REFERENCES: dict[str, Callable[[int, int], int]] = {"longer": max, "shorter": min, "pixels": lambda height, width: 1}
# Larger ones fit into no memory.
_LARGEST_OUTPUT = 2**14


class SquareCropTransform(T.Transform):
    """Crop a square of ``side`` pixels at (x0, y0) and resample it to ``output_size`` x ``output_size``.

    The square may reach beyond the image: what lies outside is zero.
    """

    def __init__(self, x0: int, y0: int, side: int, output_size: int) -> None:
        super().__init__()
        self.x0, self.y0, self.side, self.output_size = x0, y0, side, output_size

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Bilinear when enlarging, pixel-area average when shrinking.

        Args:
            img: (H, W) or (H, W, C), uint8 or float.
        """
        crop = self._crop(img)
        if self.side != self.output_size:
            size = (self.output_size, self.output_size)
            mode = cv2.INTER_AREA if self.side > self.output_size else cv2.INTER_LINEAR
            # OpenCV drops a channel axis of length 1.
            crop = cv2.resize(crop, size, interpolation=mode).reshape(*size, *img.shape[2:])
        return crop

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Nearest pixel center; (H, W) or (H, W, C) of any type."""
        # floor((j + 0.5) * side / output_size) without rounding errors
        source = (2 * np.arange(self.output_size) + 1) * self.side // (2 * self.output_size)
        return self._crop(segmentation)[source][:, source]

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(N, 2) points (x, y) of the image -> of the crop; points outside the crop stay outside."""
        return (coords - [self.x0, self.y0]) * (self.output_size / self.side)

    def apply_polygons(self, polygons: list[np.ndarray]) -> list[np.ndarray]:
        """(P, 2) polygons, cut off at the border of the crop; those outside are left out."""
        clipped = [clip_polygon(polygon, self.output_size) for polygon in super().apply_polygons(polygons)]
        return [polygon for polygon in clipped if len(polygon) >= 3]

    def _crop(self, array: np.ndarray) -> np.ndarray:
        height, width = array.shape[:2]
        top, left = max(self.y0, 0), max(self.x0, 0)
        bottom, right = min(self.y0 + self.side, height), min(self.x0 + self.side, width)
        inside = array[top:bottom, left:right]
        if inside.shape[:2] == (self.side, self.side):
            return inside
        crop = np.zeros((self.side, self.side, *array.shape[2:]), array.dtype)
        crop[top - self.y0 : bottom - self.y0, left - self.x0 : right - self.x0] = inside
        return crop


class TransposeTransform(T.Transform):
    """Swap x and y: a reflection at the main diagonal."""

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        return img.swapaxes(0, 1)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords[:, ::-1]


class ObjectSizeAugInput(T.AugInput):
    """Detectron2's input of augmentations for an image whose objects have the median size ``object_size``.

    Args:
        image: (H, W, C).
        object_size: pixels, the root of width x height; 0 where there are no objects.
    """

    def __init__(self, image: np.ndarray, object_size: float) -> None:
        super().__init__(image)
        self.object_size = object_size


class RandomSquareCrop(T.Augmentation):
    """A square crop of random size and position, resampled to a fixed size (III-C).

    The side is a random factor times a side of the image, rounded to whole pixels. Along each axis the crop lies
    inside the image, or, where it is the larger one, the image lies inside the crop.

    Args:
        relative_to: which side of the image the factor refers to, "longer" or "shorter"; or "pixels", a side of 1.
        scale_range: bounds of the uniform factor.
        output_size: side of the result in pixels, 1 to 16,384.
        max_objects_per_side: bounds the side that the factor refers to by this many times the size of the image's
            objects, where an :class:`ObjectSizeAugInput` tells it; 0 = no bound.
    """

    def __init__(
        self,
        relative_to: str,
        scale_range: tuple[float, float],
        output_size: int,
        max_objects_per_side: float = 0.0,
    ) -> None:
        super().__init__()
        if relative_to not in _REFERENCES:
            raise ValueError(f"INPUT.SQUARE_CROP.RELATIVE_TO is {relative_to!r}; use 'longer', 'shorter' or 'pixels'")
        low, high = scale_range
        if not 0 < low <= high:
            raise ValueError(f"INPUT.SQUARE_CROP.RANGE is {scale_range}; use two factors, 0 < low <= high")
        if not 0 < output_size <= _LARGEST_OUTPUT:
            raise ValueError(f"INPUT.SQUARE_CROP.OUTPUT_SIZE is {output_size}; use 1 to {_LARGEST_OUTPUT} pixels")
        if max_objects_per_side < 0:
            raise ValueError(f"INPUT.SQUARE_CROP.MAX_OBJECTS_PER_SIDE is {max_objects_per_side}; use 0 or more")
        self.relative_to, self.scale_range, self.output_size = relative_to, scale_range, output_size
        self.max_objects_per_side = max_objects_per_side

    def __call__(self, aug_input: T.AugInput) -> T.Transform:
        transform = self.get_transform(aug_input.image, getattr(aug_input, "object_size", 0.0))
        aug_input.transform(transform)
        return transform

    def get_transform(self, image: np.ndarray, object_size: float = 0.0) -> SquareCropTransform:
        height, width = image.shape[:2]
        reference = _REFERENCES[self.relative_to](height, width)
        if object_size > 0 and self.max_objects_per_side > 0:
            reference = min(reference, self.max_objects_per_side * object_size)
        side = max(1, round(reference * np.random.uniform(*self.scale_range)))
        x0, y0 = (_random_offset(size - side) for size in (width, height))
        return SquareCropTransform(x0, y0, side, self.output_size)


class ScaleBy(T.Augmentation):
    """Resize an image of any size by one factor, its sides rounded to whole pixels."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        if not 0 < factor < np.inf:
            raise ValueError(
                f"INPUT.TEST_SCALE or MIN_SCALE_TEST is {factor}; use a factor above 0, or 0 for INPUT.MIN_SIZE_TEST"
            )
        self.factor = factor

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        new_height, new_width = (max(1, int(side * self.factor + 0.5)) for side in (height, width))
        return T.ResizeTransform(height, width, new_height, new_width)


class ResizeAtLeast(T.Augmentation):
    """What another resize does, but no image is reduced below a factor.

    Args:
        resize: gives the transform of most images.
        min_factor: the smallest factor of the height, above 0.
    """

    def __init__(self, resize: T.Augmentation, min_factor: float) -> None:
        super().__init__()
        self.resize, self.scale_by = resize, ScaleBy(min_factor)

    def get_transform(self, image: np.ndarray) -> T.Transform:
        transform, at_least = self.resize.get_transform(image), self.scale_by.get_transform(image)
        height = image.shape[0] if isinstance(transform, T.NoOpTransform) else transform.new_h
        return at_least if at_least.new_h > height else transform


class RandomTranspose(T.Augmentation):
    """Swap x and y with probability ``prob``."""

    def __init__(self, prob: float = 0.5) -> None:
        super().__init__()
        self.prob = prob

    def get_transform(self, image: np.ndarray) -> T.Transform:
        return TransposeTransform() if np.random.uniform() < self.prob else T.NoOpTransform()


def build_augmentation(cfg: CfgNode, is_train: bool) -> list[T.Augmentation]:
    """Augmentation of ``cfg.INPUT``: in training crop, flips, transposition and light, in testing the resize."""
    resize_and_flip = detection_utils.build_augmentation(cfg, is_train)
    if not is_train:
        if cfg.INPUT.TEST_SCALE != 0:
            return [ScaleBy(cfg.INPUT.TEST_SCALE)]
        if cfg.INPUT.TEST_SIZE:
            return [T.Resize(tuple(cfg.INPUT.TEST_SIZE))]
        if cfg.INPUT.MIN_SCALE_TEST != 0:
            return [ResizeAtLeast(resize_and_flip[0], cfg.INPUT.MIN_SCALE_TEST)]
        return resize_and_flip
    resize, *augmentations = resize_and_flip
    square = cfg.INPUT.SQUARE_CROP
    if square.ENABLED:
        crop = RandomSquareCrop(
            square.RELATIVE_TO, tuple(square.RANGE), square.OUTPUT_SIZE, square.MAX_OBJECTS_PER_SIDE
        )
        augmentations.insert(0, crop)
    else:
        augmentations.insert(0, resize)
        if cfg.INPUT.CROP.ENABLED:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
    if cfg.INPUT.VERTICAL_FLIP:
        augmentations.append(T.RandomFlip(horizontal=False, vertical=True))
    if cfg.INPUT.TRANSPOSE:
        augmentations.append(RandomTranspose())
    return augmentations + build_photometric_augmentation(cfg)


def clip_polygon(polygon: np.ndarray, size: float) -> np.ndarray:
    """Part of a (P, 2) polygon inside the square [0, size] x [0, size], by Sutherland and Hodgman's algorithm.

    A concave polygon that falls apart stays one polygon, joined by edges of no area along the border.
    """
    for axis in (0, 1):
        for distance in (lambda p: p[axis], lambda p: size - p[axis]):  # noqa: B023
            kept = []
            for start, end in zip(polygon, np.roll(polygon, -1, axis=0)):
                start_distance, end_distance = distance(start), distance(end)
                if start_distance >= 0:
                    kept.append(start)
                if (start_distance >= 0) != (end_distance >= 0):
                    kept.append(start + (end - start) * start_distance / (start_distance - end_distance))
            polygon = np.array(kept).reshape(-1, 2)
    return polygon


def _random_offset(slack: int) -> int:
    return int(np.random.randint(min(slack, 0), max(slack, 0) + 1))
