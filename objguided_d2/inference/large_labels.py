"""Label images that are too large to be held: painted and written block by block."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from .objects import SegmentedObjects

# Images of more pixels than this have their labels written in blocks.
LARGE = 2**26
_ROWS = 512


def write_large_labels(objects: SegmentedObjects, path: Path, kind: Literal["tiff", "zarr"] = "tiff") -> None:
    """Write what ``writers.paint_labels`` gives, without holding more than some rows of it.

    Args:
        path: of a tiled BigTIFF, or the folder of an OME-Zarr image.
    """
    from .writers import LabelBlockWriter
    from .writers.label_image import label_dtype

    dtype = label_dtype(len(objects))
    height, width = objects.shape
    with LabelBlockWriter(path, objects.shape, dtype, kind, _ROWS, objects.pixel_size) as writer:
        for top in range(0, height, _ROWS):
            writer.write(paint_rows(objects, top, min(top + _ROWS, height), dtype), top, 0)


def paint_rows(objects: SegmentedObjects, top: int, bottom: int, dtype: np.dtype) -> np.ndarray:
    """Rows ``top`` to ``bottom`` - 1 of the label image, (bottom - top, W)."""
    rows = np.zeros((bottom - top, objects.shape[1]), dtype)
    meets = np.flatnonzero((objects.boxes[:, 1] < bottom) & (objects.boxes[:, 3] > top))
    for i in meets[::-1]:
        x0, y0, x1, y1 = objects.boxes[i]
        first, last = max(y0, top), min(y1, bottom)
        rows[first - top : last - top, x0:x1][objects.masks[i][first - y0 : last - y0]] = i + 1
    return rows


def writer_of(name: str, shape: tuple[int, int], write: Callable[..., None]) -> Callable[..., None]:
    """``write`` of an output format, or for labels of a large image the writer in blocks.

    OME-Zarr then holds the labels alone: the image is in the file that it came from.
    """
    if shape[0] * shape[1] <= LARGE or name not in ("labels", "zarr"):
        return write
    kind: Literal["tiff", "zarr"] = "tiff" if name == "labels" else "zarr"
    return lambda objects, path, image=None: write_large_labels(objects, path, kind)
