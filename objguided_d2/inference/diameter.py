"""How large the objects of an image are, from what the model finds in it."""

from __future__ import annotations

import logging
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
) -> float:
    """Median diameter, in the image's pixels, of what is found in its central window at the best of some scales.

    Raises:
        ValueError: if nothing is found.
    """
    height, width = source.shape
    side = min(_SIDE, height), min(_SIDE, width)
    top, left = (height - side[0]) // 2, (width - side[1]) // 2
    window = ArraySource(as_pixels(source.read(top, left, top + side[0], left + side[1])))
    best = (0.0, np.zeros(0))
    for scale in _SCALES:
        size = preparation.network_size(*side, (scale, scale))
        whole = preparation.whole(window, intensity, size)
        found = predict(PreparedImage(window, window.pixels, size, intensity, None, whole))
        areas = np.array([mask.sum() for mask in found.masks])
        # Objects at the wrong scale are found with less confidence or not at all.
        best = max(best, (float(found.scores.sum()), 2 * np.sqrt(areas / np.pi)), key=lambda one: one[0])
    if not len(best[1]):
        raise ValueError("no object is found that a diameter could be estimated from; give the diameter or a scale")
    diameter = float(np.median(best[1]))
    logger.info("Objects are about %.1f pixels wide", diameter)
    return diameter
