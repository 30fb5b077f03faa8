"""2D planes of a napari image layer, and labels of planes put back beside it."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def plane_positions(layer: Any, point: Sequence[float], all_planes: bool) -> list[tuple[int, ...]]:
    """Indices, along the axes before the last two, of the planes to segment.

    Args:
        layer: an image layer of D axes (colors are not counted).
        point: where the viewer is, in world coordinates; it may have more axes in front.
        all_planes: of the whole stack instead of the one that is seen.

    Returns:
        (D - 2) numbers for each plane; [()] for a 2D layer.
    """
    sizes = _pixels(layer).shape[: layer.ndim - 2]
    if all_planes:
        return list(np.ndindex(*sizes))
    seen = layer.world_to_data(point)[-layer.ndim :][: layer.ndim - 2]
    return [tuple(int(np.clip(round(place), 0, size - 1)) for place, size in zip(seen, sizes))]


def plane(layer: Any, position: tuple[int, ...]) -> np.ndarray:
    """(H, W) gray, or (H, W, 3) if the layer is RGB or RGBA; the full resolution of a pyramid."""
    pixels = np.asarray(_pixels(layer)[position])
    return pixels[..., :3] if layer.rgb else pixels


def pixel_size(layer: Any) -> tuple[float, float] | None:
    """Micrometers per pixel (height, width), if the layer has units of length."""
    units = getattr(layer, "units", None)
    if units is None:
        return None
    sizes = []
    for scale, unit in zip(layer.scale[-2:], units[-2:]):
        if not unit.is_compatible_with("micrometer"):
            return None
        sizes.append(float((float(scale) * unit).to("micrometer").magnitude))
    return sizes[0], sizes[1]


def placed_labels(layer: Any, labels: Sequence[np.ndarray], positions: Sequence[tuple[int, ...]]) -> tuple[Any, dict]:
    """An array of the layer's axes, and how a labels layer lies on the image.

    Args:
        labels: (H, W) of each plane.
        positions: of the planes: one, or all of the stack in order.

    Returns:
        labels, and keyword arguments of ``viewer.add_labels``.
    """
    sizes = _pixels(layer).shape[: layer.ndim - 2]
    lead = sizes if len(positions) == math.prod(sizes) else (1,) * len(sizes)
    # Where the first label lies before the layer's affine: turned and sheared as the layer is.
    first = layer.affine.inverse(layer.data_to_world((*positions[0], 0, 0)))
    placement = {
        "scale": layer.scale,
        "translate": first,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
    }
    if getattr(layer, "units", None) is not None:
        placement["units"] = layer.units
    return np.stack(labels).reshape(*lead, *labels[0].shape), placement


def _pixels(layer: Any) -> Any:
    return layer.data[0] if layer.multiscale else layer.data
