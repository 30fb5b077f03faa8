"""COCO segmentations of other programs: polygons and run lengths, checked before pycocotools sees them.

pycocotools takes a polygon of 4 numbers for a box, reads and writes beyond its memory where run lengths do not fill
the mask, and raises bare exceptions. What passes here it decodes.
"""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask as mask_util

from ..utils.rle import encode_mask, with_text_counts
from .transforms import clip_polygon

_FAR = 1e9


class NoMaskError(ValueError):
    """A segmentation that names no region at all: no rings, or rings of less than 3 points."""


def segmentation_to_rle(segmentation: list | dict | np.ndarray, height: int, width: int) -> dict:
    """COCO polygons, RLE (compressed or not) or an (H, W) mask -> compressed RLE.

    Rings of less than 3 points beside others are ignored.

    Raises:
        NoMaskError: polygons of which no ring has 3 points.
        ValueError: another type, numbers that are no coordinates or runs, or a mask of another size.
    """
    if isinstance(segmentation, (list, tuple)):
        rings = [clip_far(ring, height, width) for ring in polygon_rings(segmentation)]
        rings = [ring.ravel().tolist() for ring in rings if len(ring) >= 3]
        if not rings:  # outside of the image
            return encode_mask(np.zeros((height, width), bool))
        return with_text_counts(mask_util.merge(mask_util.frPyObjects(rings, height, width)))
    if isinstance(segmentation, dict):
        runs, counts = checked_runs(segmentation, height, width), segmentation["counts"]
        if isinstance(counts, (list, tuple)):
            return with_text_counts(mask_util.frPyObjects({"size": [height, width], "counts": runs}, height, width))
        return with_text_counts(segmentation)
    if isinstance(segmentation, np.ndarray):
        _check_size(segmentation.shape, height, width)
        return encode_mask(segmentation)
    raise ValueError(f"it is {type(segmentation).__name__}, not polygons, RLE or a mask array")


def polygon_rings(segmentation: Sequence) -> list[np.ndarray]:
    """The (P, 2) float rings of COCO polygons, P >= 3, without those of less points.

    A single ring that is not wrapped in a list is taken as meant.

    Raises:
        NoMaskError: if no ring has 3 points.
        ValueError: for an odd count of numbers, or what is no finite number.
    """
    if is_flat_ring(segmentation):
        segmentation = [segmentation]
    rings = []
    for ring in segmentation:
        if not isinstance(ring, (list, tuple)) or not all(
            isinstance(value, (int, float)) and not isinstance(value, bool) for value in ring
        ):
            raise ValueError("a ring of its polygon is no list of numbers")
        if len(ring) % 2:
            raise ValueError(f"a ring of its polygon has {len(ring)} numbers, not pairs of x and y")
        try:
            points = np.array(ring, dtype=float).reshape(-1, 2)
        except OverflowError as error:  # an integer beyond any float
            raise ValueError("a ring of its polygon has a number that is not finite") from error
        if not np.isfinite(points).all():
            raise ValueError("a ring of its polygon has a number that is not finite")
        if len(points) >= 3:
            rings.append(points)
    if not rings:
        raise NoMaskError("it has no ring of 3 points or more")
    return rings


def is_flat_ring(segmentation: Sequence) -> bool:
    """Whether polygons are one ring without the list around it."""
    return len(segmentation) > 0 and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in segmentation
    )


def checked_runs(segmentation: dict, height: int, width: int) -> list[int]:
    """The run lengths of an RLE, alternately of background and object, column by column.

    Raises:
        ValueError: if they are none, or do not fill a mask of this size.
    """
    _check_size(segmentation.get("size"), height, width)
    runs = _runs(segmentation.get("counts"))
    if sum(runs) != height * width:
        raise ValueError(f"its runs cover {sum(runs)} pixels where {height} x {width} are {height * width}")
    return runs


def _runs(counts: str | bytes | Sequence[int]) -> list[int]:
    """Run lengths from COCO's text or list of counts.

    The text holds each run, from the fourth on less the run two before it, in groups of 5 bits from low to high; bit 5
    of a character says that more follow, bit 4 of the last one is the sign (cocoapi, maskApi.c).
    """
    if isinstance(counts, (list, tuple)):
        if not all(isinstance(run, int) and not isinstance(run, bool) and 0 <= run < 1 << 32 for run in counts):
            raise ValueError("its RLE counts are no whole numbers of at least 0")
        return list(counts)
    if not isinstance(counts, (str, bytes)):
        raise ValueError(f"its RLE has counts of type {type(counts).__name__}, not text or a list of numbers")
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode("utf-8", "replace") if isinstance(counts, str) else counts:
        group = character - 48
        if not 0 <= group < 64 or shift > 30:
            raise ValueError("its RLE text is damaged")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if not 0 <= value < 1 << 32:
            raise ValueError("its RLE text is damaged")
        runs.append(value)
        value = shift = 0
    if shift:
        raise ValueError("its RLE text is cut off")
    return runs


def _check_size(size: object, height: int, width: int) -> None:
    if not isinstance(size, (list, tuple)) or tuple(size) != (height, width):
        raise ValueError(f"mask of height x width {size} in an image of {(height, width)}")


def clip_far(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """The ring, cut off at the image where it reaches far beyond: pycocotools walks along every edge."""
    side = max(height, width)
    if np.abs(ring).max() <= 2 * side:
        return ring
    # Numbers so large that their differences overflow are no points of an image anyway.
    return clip_polygon(ring.clip(-_FAR, _FAR), side)
