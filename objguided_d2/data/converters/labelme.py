"""Outlines drawn with LabelMe: one JSON file an image."""

import json
from collections.abc import Callable

import numpy as np
import pycocotools.mask as mask_util

from ..label_layers import segmentation_to_rle
from ..source_error import SourceError

_CIRCLE_POINTS = 64


def read_labelme(read: Callable[[str], bytes], name: str, size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    """Fill the objects of a LabelMe file.

    Coordinates are LabelMe's: continuous, pixel (row i, column j) covers [j, j + 1) x [i, i + 1). Polygons become
    pixels by COCO's rule. Shapes with one label and one ``group_id`` are pieces of one object.

    Args:
        read: gives the bytes of a file by name.
        name: of the JSON file.
        size: height and width of the image.

    Returns:
        (class name, (H, W) bool mask) of each object, in the order of the file.
    Raises:
        SourceError: if the file is no LabelMe file, of another image size, or holds a shape that has no area.
    """
    content = _load(read, name)
    stated = content.get("imageHeight"), content.get("imageWidth")
    if None not in stated and tuple(stated) != size:
        raise SourceError(
            f"{name} is for an image of {stated}, this one is {size} (height, width); annotate this image"
        )
    objects: dict = {}
    for number, shape in enumerate(content["shapes"]):
        label, group, mask = _fill_shape(shape, f"{name}, shape {number}", size)
        key = (label, number if group is None else f"group {group}")
        objects[key] = objects[key] | mask if key in objects else mask
    return [(label, mask) for (label, _), mask in objects.items()]


def labelme_classes(read: Callable[[str], bytes], name: str) -> set[str]:
    """The labels of a LabelMe file's shapes.

    Raises:
        SourceError: if the file is no LabelMe file.
    """
    return {shape["label"] for shape in _load(read, name)["shapes"] if isinstance(shape, dict) and "label" in shape}


def _load(read: Callable[[str], bytes], name: str) -> dict:
    try:
        content = json.loads(read(name))
        if not isinstance(content["shapes"], list):
            raise TypeError("'shapes' is no list")
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{name} is not a LabelMe file ({error!r}); export the image's annotations again") from error
    return content


def _fill_shape(shape: dict, where: str, size: tuple[int, int]) -> tuple[str, str | int | None, np.ndarray]:
    """Label, group id and (H, W) bool mask."""
    try:
        kind, label = shape.get("shape_type", "polygon"), shape["label"]
        points = np.array(shape["points"], dtype=float).reshape(-1, 2)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{where} lacks a label or points ({error!r}); draw it again") from error
    if not np.isfinite(points).all():
        raise SourceError(f"{where} has a point that is no number; draw it again")
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    elif kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        radius = np.hypot(*(points[1] - points[0]))
        points = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    elif kind != "polygon" or len(points) < 3:
        raise SourceError(f"{where} is a {kind} of {len(points)} points; use polygons, rectangles or circles")
    mask = mask_util.decode(segmentation_to_rle([points.ravel().tolist()], *size)).astype(bool)
    if not mask.any():
        raise SourceError(f"{where} covers no pixel; draw it again inside the image")
    return label, shape.get("group_id"), mask
