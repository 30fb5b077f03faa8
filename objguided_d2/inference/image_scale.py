"""How large an image becomes in the network: by a scale, the diameter of its objects, its pixel size, or the config."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np

from .model_info import ModelInfo

logger = logging.getLogger(__name__)

# Factors of an image's size, and their inverses, beyond which the pixel size that a file claims is taken for wrong.
LARGEST_FACTOR = 16
# Reduction by the config beyond which small objects are at risk.
_STRONG_REDUCTION = 0.5

Pair = tuple[float, float]
Scale = float | Pair | str | None
Diameter = float | str | None
PixelSize = float | Pair | None


def parse_sizes(
    scale: Scale, diameter: Diameter, pixel_size: PixelSize
) -> tuple[Pair | str | None, float | str | None, Pair | None]:
    """The sizes that are given of :meth:`.predictor.Predictor.__call__`: words as they are, numbers as floats.

    Raises:
        ValueError: for what is no size, and for a scale with a diameter; names the argument.
    """
    if scale is not None and diameter is not None:
        raise ValueError(f"scale={scale!r} and diameter={diameter!r} both decide the size in the network; give one")
    return (
        scale if scale is None or _is_word(scale, "config") else as_pair(scale, "scale"),
        diameter if diameter is None or _is_word(diameter, "auto") else _as_diameter(diameter),
        None if pixel_size is None else as_pair(pixel_size, "pixel_size"),
    )


def image_scale(
    source: Any,
    info: ModelInfo,
    *,
    scale: Scale,
    diameter: Diameter,
    pixel_size: PixelSize,
    estimate: Callable[[], float | None],
) -> tuple[Pair | None, Pair | None]:
    """Pixels of the network per pixel of an image, (height, width), or None for the config's size; and its pixel size.

    Args:
        source: of the image, with its own ``pixel_size``, which is ignored with a warning where the image would be
            scaled by it beyond :data:`LARGEST_FACTOR`.
        scale, diameter, pixel_size: see :meth:`.predictor.Predictor.__call__`.
        estimate: of the diameter, for "auto".

    Raises:
        ValueError: see :func:`parse_sizes` and :func:`training_diameter`.
    """
    fixed, size, given = parse_sizes(scale, diameter, pixel_size)
    known = source.pixel_size if given is None else given
    if fixed is not None:
        return (None if isinstance(fixed, str) else fixed), known
    if size is not None:
        trained = training_diameter(info)
        actual = estimate() if isinstance(size, str) else size
        if actual is not None:
            return (trained / actual, trained / actual), known
        # An empty well among many is no failure.
        logger.warning(
            "%s: no object is found that a diameter could be estimated from; the usual size is taken", _name(source)
        )
    if known is None or info.network_pixel_size is None:
        return None, known
    factors = known[0] / info.network_pixel_size, known[1] / info.network_pixel_size
    if given is None and not all(1 / LARGEST_FACTOR <= factor <= LARGEST_FACTOR for factor in factors):
        logger.warning(
            "%s: its pixel size of %g x %g micrometers would scale it by %g x %g and is ignored; give the right one "
            "(--pixel-size) or a scale (--scale)",
            _name(source),
            *known,
            *factors,
        )
        return None, None
    return factors, known


def training_diameter(info: ModelInfo) -> float:
    """The diameter of the training objects in the network, which that of an image's is compared with.

    Raises:
        ValueError: if it is unknown.
    """
    if info.object_diameter is None:
        raise ValueError(
            "the model does not know the diameter of its training objects; give a scale, or export it where its "
            "training dataset is"
        )
    return info.object_diameter


def warn_of_strong_reduction(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """Warn if the config makes an image of ``shape`` so small, ``size``, that its objects may be lost."""
    if size[0] < _STRONG_REDUCTION * shape[0]:
        logger.warning(
            "An image of %d x %d is reduced to %d x %d as the model's config says; give a scale, pixel size or "
            "diameter if its objects get too small",
            *shape,
            *size,
        )


def as_pair(value: Any, name: str) -> Pair:
    """One number or (height, width) as two positive floats.

    Args:
        name: of the argument.

    Raises:
        ValueError: for anything else; names the argument.
    """
    try:
        if isinstance(value, str):  # It would be read digit by digit.
            raise TypeError
        height, width = map(float, value if np.iterable(value) else (value, value))
    except (TypeError, ValueError):
        height = width = math.nan
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"{name}: {value!r} must be a number above 0, or two: of height and width")
    return height, width


def _as_diameter(value: Any) -> float:
    try:
        diameter = math.nan if np.iterable(value) else float(value)
    except (TypeError, ValueError):
        diameter = math.nan
    if not 0 < diameter < math.inf:
        raise ValueError(f"diameter: {value!r} must be one number above 0, or 'auto'")
    return diameter


def _is_word(value: Any, word: str) -> TypeGuard[str]:
    return isinstance(value, str) and value == word


def _name(source: Any) -> str:
    return getattr(source, "path", "an image")
