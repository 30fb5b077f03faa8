"""Shapes of many masks at once, with the values of scikit-image's ``regionprops``: one pass over the pixels of all.

For objects some tens of pixels wide, scikit-image's functions, called mask by mask, take several times as long.

Glossary: R masks, P pixels of all of them.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

# scikit-image's `perimeter`: kinds of border pixels by 1 + 2 * edge neighbors + 10 * corner neighbors on the border.
_STRAIGHT, _DIAGONAL, _BEND = 1, 2, 3
_KINDS = np.zeros(50, np.int64)
_KINDS[[5, 7, 15, 17, 25, 27]] = _STRAIGHT
_KINDS[[21, 33]] = _DIAGONAL
_KINDS[[13, 23]] = _BEND
_LENGTHS = np.array([0, 1, math.sqrt(2), (1 + math.sqrt(2)) / 2])

# Of masks that are measured together: some hundred bytes for each pixel while it lasts.
_CHUNK_PIXELS = 2**20


class Shapes(NamedTuple):
    """Each (R,) float64, in pixels; centers count from the center of a mask's first pixel.

    Attributes:
        area: pixels.
        center_y, center_x: centroid.
        yy, xx, xy: second central moments, means over the pixels.
        perimeter: of a line through the centers of the border pixels.
        hull_area: pixels of the convex hull of the pixels' edges' midpoints.
    """

    area: np.ndarray
    center_y: np.ndarray
    center_x: np.ndarray
    yy: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    perimeter: np.ndarray
    hull_area: np.ndarray


def measure_shapes(masks: Sequence[np.ndarray]) -> Shapes:
    """Measure masks, (h, w) bool each with a pixel or more."""
    parts = [_measure(chunk) for chunk in _chunks(masks)]
    return Shapes(*np.concatenate(parts, axis=1)) if parts else Shapes(*np.zeros((len(Shapes._fields), 0)))


def set_pixels(masks: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels of masks, mask by mask and row by row: number of their mask, row and column in it, (P,) int64 each."""
    widths = np.array([mask.shape[1] for mask in masks], np.int64)
    sizes = np.array([mask.size for mask in masks], np.int64)
    index = np.flatnonzero(np.concatenate([mask.ravel() for mask in masks]))
    owner = np.repeat(np.arange(len(masks)), sizes)[index]
    y, x = np.divmod(index - (np.cumsum(sizes) - sizes)[owner], widths[owner])
    return owner, y, x


def _chunks(masks: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    begin, pixels = 0, 0
    for end, mask in enumerate(masks, start=1):
        pixels += mask.size
        if pixels >= _CHUNK_PIXELS or end == len(masks):
            yield masks[begin:end]
            begin, pixels = end, 0


def _measure(masks: Sequence[np.ndarray]) -> np.ndarray:
    owner, y, x = set_pixels(masks)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, values, len(masks)) / area

    area = np.bincount(owner, minlength=len(masks)).astype(np.float64)
    center_y, center_x = mean(y), mean(x)
    from_y, from_x = y - center_y[owner], x - center_x[owner]
    moments = [mean(from_y * from_y), mean(from_x * from_x), mean(from_y * from_x)]
    return np.array([area, center_y, center_x, *moments, _perimeters(masks, owner, y, x), _hull_areas(owner, y, x)])


def _perimeters(masks: Sequence[np.ndarray], owner: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(R,) of scikit-image's ``perimeter`` with its default neighborhood."""
    # Each mask with a frame of zeros, all in one list.
    row = np.array([mask.shape[1] + 2 for mask in masks], np.int64)
    sizes = np.array([mask.shape[0] + 2 for mask in masks], np.int64) * row
    index = (np.cumsum(sizes) - sizes)[owner] + (y + 1) * row[owner] + x + 1
    border = np.zeros(sizes.sum(), np.uint8)
    border[index] = 1
    down = row[owner]
    is_border = ~(border[index - down] & border[index + down] & border[index - 1] & border[index + 1]).astype(bool)
    border[index[~is_border]] = 0
    index, down = index[is_border], down[is_border]
    code = 1 + 2 * (border[index - down] + border[index + down] + border[index - 1] + border[index + 1])
    above, below = index - down, index + down
    code += 10 * (border[above - 1] + border[above + 1] + border[below - 1] + border[below + 1])
    counts = np.bincount(owner[is_border] * len(_LENGTHS) + _KINDS[code], minlength=len(masks) * len(_LENGTHS))
    return counts.reshape(len(masks), -1) @ _LENGTHS


def _hull_areas(owner: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(R,) pixels of scikit-image's ``convex_hull_image``, exact: coordinates of vertices are whole in half pixels."""
    starts_row = (np.diff(owner, prepend=-1) != 0) | (np.diff(y, prepend=-1) != 0)
    ends_row = np.roll(starts_row, -1)
    y, left, right, owner = 2 * y[starts_row], 2 * x[starts_row], 2 * x[ends_row], owner[starts_row]
    # The first and the last pixel of a row: the midpoints of their four edges.
    corners = [(left - 1, y), (left, y - 1), (left, y + 1), (right + 1, y), (right, y - 1), (right, y + 1)]
    points = np.array(corners, np.int32).transpose(2, 0, 1)
    points = points.reshape(-1, 2)
    ends = 6 * np.cumsum(np.bincount(owner))
    hulls = [cv2.convexHull(points[begin:end])[:, 0] for begin, end in zip([0, *ends.tolist()], ends.tolist())]
    num_vertices = np.array([len(hull) for hull in hulls])
    following = np.arange(1, num_vertices.sum() + 1)
    following[np.cumsum(num_vertices) - 1] -= num_vertices
    vertices = np.concatenate(hulls).astype(np.int64)
    (x0, y0), (x1, y1) = vertices.T, vertices[following].T
    # By OpenCV's order the right side of a hull goes down, the left one up. The rows of pixels that each edge crosses:
    first = -(-np.minimum(y0, y1) // 2)
    count = -(-np.maximum(y0, y1) // 2) - first
    edge = np.repeat(np.arange(len(count)), count)
    row = 2 * (first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count))
    run, rise = (x1 - x0)[edge], (y1 - y0)[edge]
    # Where an edge crosses a row, in whole pixels: columns up to it on the right, less those before it on the left.
    crossing = x0[edge] * rise + (row - y0[edge]) * run
    columns = crossing // (2 * np.abs(rise)) + (rise > 0)
    return np.bincount(np.repeat(np.arange(len(hulls)), num_vertices)[edge], columns, len(hulls))
