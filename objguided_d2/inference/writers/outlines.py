"""Masks -> outlines along pixel edges.

Coordinates are pixel corners: pixel (row y, column x) is the square from (x, y) to (x + 1, y + 1), y down, so an
outline around it encloses its center (x + 0.5, y + 0.5) and filling the outline gives the mask back exactly. It is
the convention of QuPath, GeoJSON there and ImageJ's area selections.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage


class Piece(NamedTuple):
    """A part of an object whose pixels are joined by their edges.

    Attributes:
        outer: (V, 2) int64 corners (x, y) of its outline, clockwise as seen (y down), the first not repeated.
        holes: of the same kind, counterclockwise. Rings touch each other and themselves in no more than points: each
            ring passes a corner once.
    """

    outer: np.ndarray
    holes: list[np.ndarray]


def trace_pieces(mask: np.ndarray, offset: tuple[int, int] = (0, 0)) -> list[Piece]:
    """Trace the outlines of a mask.

    Args:
        mask: (h, w) bool.
        offset: (x, y) of its first pixel in the image.

    Returns:
        its pieces, in order of their first pixel by rows; pixels that touch by a corner only are in different ones
        unless others join them. [] for an empty mask.
    """
    labels, num_pieces = ndimage.label(mask)
    pieces = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        rings = _rings(labels[rows, columns] == number)
        origin = np.array([columns.start + offset[0], rows.start + offset[1]])
        outer = [ring + origin for ring, area in rings if area > 0]
        pieces.append(Piece(outer[0], [ring + origin for ring, area in rings if area < 0]))
    assert len(pieces) == num_pieces
    return pieces


def _rings(mask: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Simple closed rings around a mask with their signed areas, positive for the outer one."""
    padded = np.pad(mask, 1)
    above, below = padded[:-1], padded[1:]
    # Edges that start at corner (y, x) of the mask, by direction; the mask lies to their right.
    up_left, up_right, down_left, down_right = above[:, :-1], above[:, 1:], below[:, :-1], below[:, 1:]
    starts = np.stack(
        [down_right & ~up_right, down_left & ~down_right, up_left & ~down_left, up_right & ~up_left], axis=-1
    )
    return [ring for loop in _loops(starts) for ring in _split_at_repeated(loop)]


def _loops(starts: np.ndarray) -> list[list[tuple[int, int]]]:
    """Follow edges to closed loops, of the corners (x, y) where they turn.

    Args:
        starts: (h + 1, w + 1, 4) bool, whether an edge starts at a corner to the right, down, left, up.
    """
    columns = starts.shape[1]
    steps = (1, columns, -1, -columns)
    edges = np.flatnonzero(starts).tolist()
    remaining = bytearray(starts.tobytes())
    loops = []
    for edge in edges:
        # The first corner of a loop, by rows, is one where it turns.
        loop, last_direction = [], -1
        while remaining[edge]:
            remaining[edge] = False
            corner, direction = edge >> 2, edge & 3
            if direction != last_direction:
                loop.append((corner % columns, corner // columns))
                last_direction = direction
            corner += steps[direction]
            # Right first: where two pixels touch by a corner, the way stays at its own.
            for turn in (1, 0, 3):
                edge = corner << 2 | (direction + turn) & 3
                if remaining[edge]:
                    break
        if loop:
            loops.append(loop)
    return loops


def _split_at_repeated(loop: list[tuple[int, int]]) -> list[tuple[np.ndarray, int]]:
    """Cut a loop where it passes a corner again: an outline that closes on itself becomes an outline and a hole.

    A loop turns at such a corner each time, and so do the rings that it is cut into.
    """
    rings, path, position = [], [], {}
    for corner in [*loop, loop[0]]:
        if corner in position:
            start = position[corner]
            rings.append(np.array(path[start:], np.int64))
            for dropped in path[start + 1 :]:
                del position[dropped]
            del path[start + 1 :]
        else:
            position[corner] = len(path)
            path.append(corner)
    return [(ring, _signed_area(ring)) for ring in rings]


def _signed_area(ring: np.ndarray) -> int:
    following = np.roll(ring, -1, axis=0)
    return int((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum()) // 2
