"""Outlines drawn with LabelMe and programs that write its files: one JSON file per image."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from ...utils.rle import decode_masks
from ..decode_limit import check_pixels
from ..segmentation import segmentation_to_rle
from ..source_error import SourceError
from .conversion import ConversionNotes

_CIRCLE_POINTS = 64
# Shapes without an area.
_LINES = ("point", "points", "line", "linestrip", "lines")
_CORNERS = ("rectangle", "rotation", "quadrilateral", "polygon")


def read_labelme(
    content: dict, name: str, size: tuple[int, int], default_class: str, notes: ConversionNotes
) -> list[tuple[str, np.ndarray]]:
    """Fill the objects of a LabelMe file, versions 3 to 5.

    Coordinates are LabelMe's: continuous, pixel (row i, column j) covers [j, j + 1) x [i, i + 1). Polygons become
    pixels by COCO's rule. Shapes with one label and one ``group_id`` are pieces of one object. Shapes that have no area
    or are of no known kind are left out and noted.

    Args:
        content: of the JSON file.
        name: of the file, for messages.
        size: height and width of the image.
        default_class: of shapes without a label.

    Returns:
        (class name, (H, W) bool mask) of each object, in the order of the file.
    Raises:
        SourceError: if the file is for an image of another size.
    """
    stated = content.get("imageHeight"), content.get("imageWidth")
    if None not in stated and tuple(stated) != size:
        raise SourceError(
            f"{name} is for an image of {stated}, this one is {size} (height, width); annotate this image"
        )
    objects: dict = {}
    for number, shape in enumerate(content["shapes"] or []):
        where = f"{name}, shape {number}"
        try:
            label = shape_label(shape, default_class)
            mask = _fill_shape(shape, size)
        except ValueError as error:
            notes.leave_out(f"{where} {error}", kind="shape left out")
            continue
        if shape.get("label") in (None, ""):
            notes.add(f"shape without a label, of class {default_class!r}", where)
        group = shape.get("group_id")
        key = (label, number if group is None else f"group {group}")
        objects[key] = objects[key] | mask if key in objects else mask
    return [(label, mask) for (label, _), mask in objects.items()]


def labelme_classes(content: dict, default_class: str) -> set[str]:
    """The labels of the shapes that have an area."""
    return {
        shape_label(shape, default_class)
        for shape in content["shapes"] or []
        if isinstance(shape, dict) and shape.get("shape_type") not in _LINES
    }


def shape_label(shape: Any, default_class: str) -> str:
    """A shape's class; null and empty labels are the default, numbers their text.

    Raises:
        ValueError: for what is no shape.
    """
    if not isinstance(shape, dict):
        raise ValueError("is no object with points; draw it again")
    label = shape.get("label")
    return default_class if label is None or label == "" else str(label)


def is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and "shapes" in content and isinstance(content["shapes"], (list, type(None)))


def _fill_shape(shape: dict, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask.

    Raises:
        ValueError: with what is wrong with the shape and what to do.
    """
    kind = shape.get("shape_type") or "polygon"
    points = _points(shape)
    if kind == "mask":
        mask = _paste_mask(shape.get("mask"), points, size)
    else:
        outline = _outline(kind, points)
        (mask,) = decode_masks([segmentation_to_rle([outline.ravel().tolist()], *size)], *size)
    if not mask.any():
        raise ValueError("covers no pixel; draw it again inside the image")
    return mask


def _points(shape: dict) -> np.ndarray:
    try:
        points = np.array(shape["points"], dtype=float).reshape(-1, 2)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"lacks points ({error!r}); draw it again") from error
    if not np.isfinite(points).all():
        raise ValueError("has a point that is no number; draw it again")
    return points


def _outline(kind: str, points: np.ndarray) -> np.ndarray:
    """(P, 2) polygon of a shape that has an area."""
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    if kind == "circle" and len(points) == 2:
        radius = np.hypot(*(points[1] - points[0]))
        return points[0] + radius * _unit_circle()
    if kind == "ellipse" and len(points) == 2:  # corners of its box
        return points.mean(axis=0) + np.abs(points[1] - points[0]) / 2 * _unit_circle()
    if kind == "ellipse" and len(points) == 4:  # corners of a turned box, in order
        center, axes = points.mean(axis=0), np.stack([points[1] - points[0], points[3] - points[0]]) / 2
        return center + _unit_circle() @ axes
    if kind in _CORNERS and len(points) >= 3:
        return points
    if kind in _LINES:
        raise ValueError(f"is a {kind}, which has no area; use polygons, rectangles, circles or masks")
    raise ValueError(f"is a {kind} of {len(points)} points; use polygons, rectangles, circles or masks")


def _unit_circle() -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _paste_mask(encoded: Any, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask of AI tools (LabelMe 5): a PNG of the box from the first to the second point, both inclusive."""
    if not isinstance(encoded, str) or len(points) < 1:
        raise ValueError("is a mask without its picture; draw it again")
    try:
        data = base64.b64decode(encoded, validate=False)
        with Image.open(io.BytesIO(data)) as image:
            check_pixels(image.width * image.height, "it")
            picture = np.array(image.convert("L")) > 0
    except Exception as error:  # of damaged pictures Pillow raises whatever it stumbles over
        raise ValueError(f"is a mask whose picture cannot be read ({error}); draw it again") from error
    mask = np.zeros(size, bool)
    x0, y0 = (int(v) for v in np.clip(np.floor(points.min(axis=0)), -(2**31), 2**31))
    top, left = max(y0, 0), max(x0, 0)
    inside = picture[top - y0 : size[0] - y0 if size[0] > y0 else 0, left - x0 : size[1] - x0 if size[1] > x0 else 0]
    mask[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return mask
