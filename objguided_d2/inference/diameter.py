"""How large the objects of an image are, from what the model finds in it."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable

import numpy as np

from ..data.intensity import IntensityMapping
from .objects import SegmentedObjects
from .preparation import ArraySource, PixelSource, Preparation, PreparedImage, as_pixels

logger = logging.getLogger(__name__)

# Windows that the diameter of objects is estimated in, and the scales that are tried there.
_SIDE, _SCALES = 1024, (0.25, 0.5, 1.0, 2.0)


def estimate_diameter(
    source: PixelSource,
    intensity: IntensityMapping | None,
    preparation: Preparation,
    predict: Callable[[PreparedImage], SegmentedObjects],
) -> float | None:
    """Median diameter, in the image's pixels, of what is found at the best of some scales.

    The central window decides; where nothing is found in it, others follow, up to those next to corners. None if
    nothing is found in any of them.
    """
    for window in _windows(*source.shape):
        pixels = source.read(*window)
        finite = pixels[np.isfinite(pixels)]
        # What lies around a slide or a mosaic needs no network.
        if not finite.size or finite.min() == finite.max():
            continue
        diameters = _diameters(ArraySource(as_pixels(pixels)), intensity, preparation, predict)
        if len(diameters):
            diameter = float(np.median(diameters))
            logger.info("Objects are about %.1f pixels wide", diameter)
            return diameter
    return None


def _windows(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Up to nine windows (y0, x0, y1, x1), from the center outward, that cover up to three times their side."""
    sides = min(_SIDE, height), min(_SIDE, width)
    center = (height - sides[0]) // 2, (width - sides[1]) // 2
    # Two windows that reach both ends cover up to twice their side.
    tops, lefts = (
        sorted({0, size - side} | ({middle} if size > 2 * side else set()))
        for size, side, middle in zip((height, width), sides, center)
    )
    places = sorted({center, *itertools.product(tops, lefts)}, key=lambda place: (math.dist(place, center), place))
    return [(top, left, top + sides[0], left + sides[1]) for top, left in places]


def _diameters(
    window: ArraySource,
    intensity: IntensityMapping | None,
    preparation: Preparation,
    predict: Callable[[PreparedImage], SegmentedObjects],
) -> np.ndarray:
    """(N,) diameters, in pixels, of the objects of a window at the scale where they are found best."""
    height, width = window.shape
    best = (0.0, np.zeros(0))
    for scale in _SCALES:
        size = preparation.network_size(height, width, (scale, scale))
        whole = preparation.whole(window, intensity, size)
        found = predict(PreparedImage(window, window.pixels, size, intensity, None, whole))
        areas = np.array([mask.sum() for mask in found.masks])
        # Objects at the wrong scale are found with less confidence or not at all.
        best = max(best, (float(found.scores.sum()), 2 * np.sqrt(areas / np.pi)), key=lambda one: one[0])
    return best[1]
