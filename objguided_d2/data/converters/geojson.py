"""Outlines of QuPath and other programs in GeoJSON: one file per image, coordinates in pixels."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...utils.rle import decode_masks
from ..segmentation import segmentation_to_rle
from .conversion import ConversionNotes

_AREAS = ("Polygon", "MultiPolygon")


def is_geojson(content: Any) -> bool:
    """Whether JSON content is a feature, a collection or a list of features."""
    if isinstance(content, list):
        return bool(content) and all(isinstance(entry, dict) and entry.get("type") == "Feature" for entry in content)
    return isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")


def read_geojson(
    content: Any, name: str, size: tuple[int, int], default_class: str, notes: ConversionNotes
) -> list[tuple[str, np.ndarray]]:
    """Fill the polygons of a GeoJSON file; holes stay open. Points and lines are left out and noted.

    Args:
        content: of the file, see :func:`is_geojson`.
        name: of the file, for messages.
        size: height and width of the image. Pixel (row i, column j) covers [j, j + 1) x [i, i + 1).
        default_class: of features without a classification.

    Returns:
        (class name, (H, W) bool mask) of each object.
    """
    objects = []
    for number, feature in enumerate(_features(content)):
        try:
            mask = np.zeros(size, bool)
            for rings in _polygons(feature):
                filled = [_fill(ring, size) for ring in rings]
                mask |= filled[0] & ~np.logical_or.reduce([np.zeros(size, bool), *filled[1:]])
            if not mask.any():
                raise ValueError("covers no pixel of the image; check that its coordinates are pixels")
            objects.append((feature_class(feature, default_class), mask))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            notes.leave_out(f"{name}, feature {number}: {error}", kind="shape left out")
    return objects


def geojson_classes(content: Any, default_class: str) -> set[str]:
    """Classes of the features that have an area."""
    with_area = (feature for feature in _features(content) if isinstance(feature, dict) and _kind(feature) in _AREAS)
    return {feature_class(feature, default_class) for feature in with_area}


def feature_class(feature: dict, default_class: str) -> str:
    """QuPath's classification of a feature, derived classes joined as it shows them."""
    properties = feature.get("properties")
    classification = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(classification, dict):
        names = classification.get("names")
        if isinstance(names, list) and names:
            return ": ".join(map(str, names))
        classification = classification.get("name")
    return str(classification) if classification else default_class


def _features(content: Any) -> Iterator[Any]:
    features = content
    if isinstance(content, dict):
        features = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    yield from features if isinstance(features, list) else ()


def _polygons(feature: dict) -> list:
    kind = _kind(feature)
    if kind not in _AREAS:
        raise ValueError(f"its geometry is {kind}, which has no area; export polygons")
    coordinates = feature["geometry"]["coordinates"]
    return [coordinates] if kind == "Polygon" else coordinates


def _kind(feature: dict) -> Any:
    geometry = feature.get("geometry")
    return geometry.get("type") if isinstance(geometry, dict) else None


def _fill(ring: list, size: tuple[int, int]) -> np.ndarray:
    flat = [value for point in ring for value in point[:2]]
    (mask,) = decode_masks([segmentation_to_rle([flat], *size)], *size)
    return mask
