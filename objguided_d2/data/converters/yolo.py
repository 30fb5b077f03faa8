"""YOLO's segmentation labels: ``<class> x1 y1 x2 y2 ...`` a line and object, as fractions of width and height."""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
import yaml

from ...utils.rle import decode_masks
from ..segmentation import segmentation_to_rle
from ..source_error import SourceError
from .conversion import ConversionNotes
from .text_files import read_text

# An outline may leave the image a little where it was drawn over the border.
_TOLERANCE = 0.05


def read_class_names(read: Callable[[str], bytes], names: Sequence[str], notes: ConversionNotes) -> dict[int, str]:
    """Class names by number from ``classes.txt``, ``obj.names`` or a ``.yaml`` file with ``names``; else empty."""
    for name in names:
        path = PurePosixPath(name)
        try:
            if path.name.lower() in ("classes.txt", "obj.names"):
                return dict(
                    enumerate(line.strip() for line in read_text(read, name, notes).splitlines() if line.strip())
                )
            if path.suffix.lower() in (".yaml", ".yml"):
                content = yaml.safe_load(read_text(read, name, notes))
                found = content.get("names") if isinstance(content, dict) else None
                if isinstance(found, (list, dict)):
                    pairs = found.items() if isinstance(found, dict) else enumerate(found)
                    return {int(number): str(text) for number, text in pairs}
        except (yaml.YAMLError, ValueError, TypeError, RecursionError, SourceError):
            continue
    return {}


def read_yolo(
    text: str, name: str, size: tuple[int, int], class_names: dict[int, str], notes: ConversionNotes
) -> list[tuple[str, np.ndarray]]:
    """Fill the objects; lines that are none are left out and noted.

    Args:
        text: of the file.
        name: for messages.
        size: height and width of the image.
        class_names: see :func:`read_class_names`.

    Returns:
        (class name, (H, W) bool mask) of each object.
    Raises:
        SourceError: if all its lines are boxes, which are no masks.
    """
    objects, num_boxes = [], 0
    lines = [line for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            label, ring = _parse(line)
            (mask,) = decode_masks([segmentation_to_rle([(ring * size[::-1]).ravel().tolist()], *size)], *size)
            if not mask.any():
                raise ValueError("covers no pixel of the image")
            objects.append((class_names.get(label, f"class {label}"), mask))
        except ValueError as error:
            num_boxes += "is a box" in str(error)
            notes.leave_out(f"{name}, line {number}: {error}", kind="shape left out")
    if lines and num_boxes == len(lines):
        raise SourceError(f"{name} holds boxes, not outlines; export YOLO segmentation labels")
    return objects


def yolo_classes(text: str, class_names: dict[int, str]) -> set[str]:
    labels = set()
    for line in text.splitlines():
        try:
            labels.add(_parse(line)[0])
        except ValueError:
            continue
    return {class_names.get(label, f"class {label}") for label in labels}


def _parse(line: str) -> tuple[int, np.ndarray]:
    """Class number and (P, 2) fractions."""
    try:
        label, *values = (float(word) for word in line.split())
    except ValueError as error:
        raise ValueError("is no line of numbers; export it again") from error
    if not np.isfinite([label, *values]).all() or label != int(label) or label < 0:
        raise ValueError("has no class number; export it again")
    if len(values) == 4:
        raise ValueError("is a box, not an outline; export YOLO segmentation labels")
    if len(values) % 2 or len(values) < 6:
        raise ValueError(f"has {len(values)} coordinates; an outline has pairs of x and y, three or more")
    ring = np.array(values).reshape(-1, 2)
    if ring.min() < -_TOLERANCE or ring.max() > 1 + _TOLERANCE:
        raise ValueError(f"has coordinates of {ring.min():g} to {ring.max():g}; they must be fractions of the image")
    return int(label), ring
