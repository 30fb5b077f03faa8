"""Measurements of objects, those of scikit-image's ``regionprops``, as a table whose headers hold the units.

Lengths are in micrometers (``_um``, ``_um2``) where the pixel size is known, else in pixels (``_px``, ``_px2``).
Centers and boxes are always in pixel corners: the center of the single pixel in row 0 and column 0 is (0.5, 0.5), its
box 0, 0, 1, 1.

- area: of the mask; perimeter: of a line through the centers of its border pixels (scikit-image's ``perimeter``), in
  pixels if these are not square;
- major_axis, minor_axis, eccentricity: of the ellipse with the same second moments;
- solidity: area by that of the convex hull;
- mean_intensity: over the mask, of each channel, as stored in the image; values that are not finite are ignored. Of
  channels that share a name, the second is called ``name_2``.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas

from ...utils.atomic_write import atomic_write
from ..objects import SegmentedObjects
from .image_crops import Image, channel_names, check_shape, crop
from .mask_shapes import measure_shapes, set_pixels

NAMING_COLUMNS = ["label", "class", "score"]
_SQUARE = 1e-3  # pixels whose sides differ by less are square
_BAND_ROWS = 512  # of the image, that objects begin in whose intensities are read together


def measure(
    objects: SegmentedObjects, image: Image | None = None, names: Sequence[str] | None = None
) -> pandas.DataFrame:
    """Measure each object; those under others are measured whole.

    Args:
        image: (H, W) or (H, W, C) array or an open source, for intensities.
        names: C names of its channels, by default the source's or numbers.

    Returns:
        a row an object in their order: ``label`` (its number in the label image), ``class``, ``score``, then the
        measures of the module.
    Raises:
        ValueError: if the image is not as large as the objects' one, or has another number of channels than ``names``.
    """
    if image is not None:
        check_shape(image, objects.shape)
        own_names = channel_names(image)
        names = own_names if names is None else names
        if len(names) != len(own_names):
            raise ValueError(f"names: {len(names)} for an image of {len(own_names)} channels; give one a channel")
    columns = dict(zip(_shape_columns(objects.pixel_size), _shape_values(objects)))
    if image is not None and names is not None:
        columns.update(zip(_intensity_columns(names), _mean_intensities(objects, image, len(names)).T))
    x0, y0, x1, y1 = np.asarray(objects.boxes, np.int64).reshape(-1, 4).T
    return pandas.DataFrame(
        {
            "label": np.arange(1, len(objects) + 1),
            # Without objects, pandas would take it for numbers.
            "class": pandas.Series([objects.class_names[number] for number in objects.classes], dtype=str),
            "score": np.round(np.asarray(objects.scores, np.float64), 6),
            **{"x0_px": x0, "y0_px": y0, "x1_px": x1, "y1_px": y1},
            **columns,
        }
    )


def _intensity_columns(names: Sequence[str]) -> list[str]:
    return ["mean_intensity"] if len(names) == 1 else [f"mean_intensity_{name}" for name in _numbered(names)]


def _numbered(names: Sequence[str]) -> list[str]:
    """Names with a number after those that occur before; files may give several channels the same one."""
    unique: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in unique or (number > 1 and candidate in names):
            number += 1
            candidate = f"{name}_{number}"
        unique.append(candidate)
    return unique


def _shape_columns(pixel_size: tuple[float, float] | None) -> list[str]:
    unit = "px" if pixel_size is None else "um"
    perimeter = "px" if pixel_size is None or not _is_square(pixel_size) else "um"
    return [
        "center_x_px", "center_y_px", f"area_{unit}2", f"perimeter_{perimeter}", f"major_axis_{unit}",
        f"minor_axis_{unit}", "eccentricity", "solidity",
    ]  # fmt: skip


def _is_square(pixel_size: tuple[float, float]) -> bool:
    return math.isclose(*pixel_size, rel_tol=_SQUARE)


def _shape_values(objects: SegmentedObjects) -> list[np.ndarray]:
    """The columns of :func:`_shape_columns`."""
    height, width = objects.pixel_size or (1.0, 1.0)
    # scikit-image has no perimeter for pixels that are not square, but the ellipse.
    side = math.sqrt(height * width) if _is_square((height, width)) else 1.0
    shapes = measure_shapes(objects.masks)
    left, top = objects.boxes[:, 0], objects.boxes[:, 1]
    # The ellipse with the same second moments.
    yy, xx, xy = shapes.yy * height**2, shapes.xx * width**2, shapes.xy * height * width
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    major, minor = 4 * np.sqrt(middle + spread), 4 * np.sqrt(np.maximum(middle - spread, 0))
    ratio = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    return [
        left + shapes.center_x + 0.5,
        top + shapes.center_y + 0.5,
        shapes.area * height * width,
        shapes.perimeter * side,
        major,
        minor,
        np.sqrt(np.maximum(1 - ratio**2, 0)),
        shapes.area / shapes.hull_area,
    ]


def _mean_intensities(objects: SegmentedObjects, image: Image, num_channels: int) -> np.ndarray:
    """(N, C) means over the masks, of what is finite; NaN where nothing is.

    The image is read in bands that follow each other, not object by object: what a tile of its file holds is decoded
    once or twice, however many objects lie in it.
    """
    means = np.full((len(objects), num_channels), np.nan)
    band = objects.boxes[:, 1] // _BAND_ROWS
    order = np.argsort(band, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(band[order])) + 1):
        if len(members):
            means[members] = _means_of_band(objects, members, image)
    return means


def _means_of_band(objects: SegmentedObjects, members: np.ndarray, image: Image) -> np.ndarray:
    boxes = objects.boxes[members]
    left, top = boxes[:, :2].min(0).tolist()
    right, bottom = boxes[:, 2:].max(0).tolist()
    pixels = crop(image, top, left, bottom, right)
    owner, y, x = set_pixels([objects.masks[i] for i in members])
    values = pixels[y + boxes[owner, 1] - top, x + boxes[owner, 0] - left].astype(np.float64)
    finite = np.isfinite(values)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    total = np.add.reduceat(np.where(finite, values, 0.0), starts)
    count = np.add.reduceat(finite, starts, dtype=np.int64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def write_table(objects: SegmentedObjects, path: Path, *, image: Image | None = None) -> None:
    """Write :func:`measure` as CSV, or as Parquet where the ending says so.

    Raises:
        ImportError: if pyarrow is needed and not installed; it says how to install it.
    """
    table = measure(objects, image)
    with atomic_write(path) as temporary:
        if path.suffix == ".parquet":
            try:
                import pyarrow  # noqa: F401
            except ImportError as error:
                raise ImportError(f"{path} needs pyarrow: pip install 'objguided_d2[parquet]'") from error
            table.to_parquet(temporary, index=False)
        else:
            # Positions and areas of whole slides have more than 6 digits.
            table.to_csv(temporary, index=False, float_format="%.8g", lineterminator="\n")
