"""Measurements of objects, those of scikit-image's ``regionprops``, as a table whose headers hold the units.

Lengths are in micrometers (``_um``, ``_um2``) where the pixel size is known, else in pixels (``_px``, ``_px2``).
Centers and boxes are always in pixel corners: the center of the single pixel in row 0 and column 0 is (0.5, 0.5), its
box 0, 0, 1, 1.

- area: of the mask; perimeter: of a line through the centers of its border pixels (scikit-image's ``perimeter``), in
  pixels if these are not square;
- major_axis, minor_axis, eccentricity: of the ellipse with the same second moments;
- solidity: area by that of the convex hull;
- mean_intensity: over the mask, of each channel, as stored in the image; values that are not finite are ignored.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas
from skimage.measure import perimeter
from skimage.morphology import convex_hull_image

from ...utils.atomic_write import atomic_write
from ..objects import SegmentedObjects
from .image_crops import Image, channel_names, check_shape, crop

NAMING_COLUMNS = ["label", "class", "score"]
_SQUARE = 1e-3  # pixels whose sides differ by less are square


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
        ValueError: if the image is not as large as the objects' one.
    """
    if image is not None:
        check_shape(image, objects.shape)
        names = channel_names(image) if names is None else names
    intensities = [] if image is None or names is None else _intensity_columns(names)
    shapes = _shape_columns(objects.pixel_size)
    rows = np.full((len(objects), len(shapes) + len(intensities)), np.nan)
    for i, mask in enumerate(objects.masks):
        rows[i, : len(shapes)] = _shape_measures(mask, objects.boxes[i], objects.pixel_size)
        if image is not None:
            x0, y0, x1, y1 = objects.boxes[i].tolist()
            rows[i, len(shapes) :] = _mean_intensity(crop(image, y0, x0, y1, x1)[mask])
    table = pandas.DataFrame(
        {
            "label": np.arange(1, len(objects) + 1),
            "class": [objects.class_names[number] for number in objects.classes],
            "score": np.round(np.asarray(objects.scores, np.float64), 6),
        }
    )
    boxes = pandas.DataFrame(
        np.asarray(objects.boxes, np.int64).reshape(-1, 4), columns=["x0_px", "y0_px", "x1_px", "y1_px"]
    )
    return pandas.concat([table, boxes, pandas.DataFrame(rows, columns=[*shapes, *intensities])], axis=1)


def _intensity_columns(names: Sequence[str]) -> list[str]:
    return ["mean_intensity"] if len(names) == 1 else [f"mean_intensity_{name}" for name in names]


def _shape_columns(pixel_size: tuple[float, float] | None) -> list[str]:
    unit = "px" if pixel_size is None else "um"
    perimeter = "px" if pixel_size is None or not _is_square(pixel_size) else "um"
    return [
        "center_x_px", "center_y_px", f"area_{unit}2", f"perimeter_{perimeter}", f"major_axis_{unit}",
        f"minor_axis_{unit}", "eccentricity", "solidity",
    ]  # fmt: skip


def _is_square(pixel_size: tuple[float, float]) -> bool:
    return math.isclose(*pixel_size, rel_tol=_SQUARE)


def _shape_measures(mask: np.ndarray, box: np.ndarray, pixel_size: tuple[float, float] | None) -> list[float]:
    height, width = pixel_size or (1.0, 1.0)
    # scikit-image has no perimeter for pixels that are not square, but the ellipse.
    side = math.sqrt(height * width) if _is_square((height, width)) else 1.0
    y, x = np.nonzero(mask)
    center_y, center_x = y.mean(), x.mean()
    major, minor = _ellipse_axes((y - center_y) * height, (x - center_x) * width)
    return [
        float(box[0]) + center_x + 0.5,
        float(box[1]) + center_y + 0.5,
        len(y) * height * width,
        perimeter(mask) * side,
        major,
        minor,
        math.sqrt(max(0.0, 1 - (minor / major) ** 2)) if major else 0.0,
        len(y) / np.count_nonzero(convex_hull_image(mask)),
    ]


def _ellipse_axes(y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Major and minor axis of the ellipse with the second moments of points around their center, as ``regionprops``
    has them, which computes every moment up to the third: half of the time of a table."""
    yy, xx, xy = (float(np.mean(product)) for product in (y * y, x * x, x * y))
    middle, spread = (yy + xx) / 2, math.hypot((yy - xx) / 2, xy)
    return 4 * math.sqrt(middle + spread), 4 * math.sqrt(max(0.0, middle - spread))


def _mean_intensity(values: np.ndarray) -> np.ndarray:
    """(P, C) -> (C,) means over what is finite, NaN where nothing is."""
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    total = np.where(finite, values, 0).sum(axis=0)
    count = finite.sum(axis=0)
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
            table.to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")
