"""Label images: pixel value i + 1 for object i, 0 for background; TIFF for all programs, and CTC's ``maskTTT.tif``."""

from pathlib import Path

import numpy as np
import tifffile

from ...utils.atomic_write import atomic_write
from ..objects import SegmentedObjects

_UINT16_OBJECTS = 2**16 - 1


def label_dtype(num_objects: int) -> np.dtype:
    """uint16, or uint32 from 65,536 objects."""
    return np.dtype(np.uint16 if num_objects <= _UINT16_OBJECTS else np.uint32)


def paint_labels(objects: SegmentedObjects) -> np.ndarray:
    """Paint objects into one image; where they overlap, the one with the better score is seen.

    Args:
        objects: best score first.

    Returns:
        (H, W) uint16, or uint32 from 65,536 objects: i + 1 where object i is, 0 elsewhere. An object under others
        altogether has no pixel; the numbers of the rest do not change.
    """
    labels = np.zeros(objects.shape, label_dtype(len(objects)))
    for i in range(len(objects) - 1, -1, -1):
        x0, y0, x1, y1 = objects.boxes[i]
        labels[y0:y1, x0:x1][objects.masks[i]] = i + 1
    return labels


def write_labels(objects: SegmentedObjects, path: Path, *, image: object = None) -> None:
    """Write :func:`paint_labels` as a TIFF, with the pixel size as resolution where it is known."""
    write_label_tiff(paint_labels(objects), path, objects.pixel_size)


def write_label_tiff(labels: np.ndarray, path: Path, pixel_size: tuple[float, float] | None = None) -> None:
    """Write (H, W) integers as a compressed TIFF.

    Args:
        pixel_size: micrometers (height, width), written as pixels per centimeter.
    """
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels,
            photometric="minisblack",
            compression="zlib",
            predictor=True,
            metadata={"axes": "YX"},
            **resolution(pixel_size),
        )


def resolution(pixel_size: tuple[float, float] | None) -> dict:
    """tifffile's arguments for a pixel size (height, width) in micrometers."""
    if pixel_size is None:
        return {}
    return {"resolution": (1e4 / pixel_size[1], 1e4 / pixel_size[0]), "resolutionunit": "CENTIMETER"}


def write_ctc(objects: SegmentedObjects, path: Path, *, image: object = None) -> None:
    """Write ``maskTTT.tif`` of the Cell Tracking Challenge: 16-bit labels of one time point.

    Raises:
        ValueError: from 65,536 objects, which 16 bits cannot number.
    """
    if len(objects) > _UINT16_OBJECTS:
        raise ValueError(f"{path}: CTC's masks have 16 bits, too few for {len(objects):,} objects; save labels instead")
    write_label_tiff(paint_labels(objects), path)
