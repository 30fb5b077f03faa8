"""The objects of a label image, under the rules that all converters share.

- Pixels of one label are one object, also where they lie in several pieces.
- A piece of 1 or 2 pixels is a slip of the pen: dropped, and with it an object that has no larger piece.

Pieces hang together over edges and corners.
"""

from collections.abc import Iterator

import cv2
import numpy as np
from scipy import ndimage
from skimage import measure

from .conversion import ConversionNotes

MAX_SPECK_PIXELS = 2


def label_objects(labels: np.ndarray, name: str, notes: ConversionNotes) -> Iterator[tuple[int, np.ndarray]]:
    """Walk through the objects of a label image.

    Args:
        labels: (H, W) integers, 0 = background.
        name: of the file, for the notes.
        notes: takes objects in several pieces and what was dropped.

    Yields:
        (label, (H, W) bool mask) in ascending order of the labels.
    """
    values, dense = np.unique(labels, return_inverse=True)
    first = int(values[0] == 0)
    dense = dense.reshape(labels.shape).astype(np.int32) + (1 - first)
    for number, box in enumerate(ndimage.find_objects(dense), start=1):
        value = int(values[number - 1 + first])
        mask = clean_mask(dense[box] == number, f"{name}, label {value}", notes)
        if mask is not None:
            whole = np.zeros(labels.shape, bool)
            whole[box] = mask
            yield value, whole


def label_pieces(labels: np.ndarray) -> np.ndarray:
    """Number every connected piece of every label of (H, W) integers; 0 stays the background."""
    return measure.label(labels, background=0, connectivity=2)


def clean_mask(mask: np.ndarray, name: str, notes: ConversionNotes) -> np.ndarray | None:
    """One object's mask without specks; None if nothing is left of it.

    Args:
        mask: (H, W) bool.
    """
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    box = np.s_[y : y + h, x : x + w]
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask[box].astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    specks = areas <= MAX_SPECK_PIXELS
    if specks.all():
        notes.add(f"object of 1 or {MAX_SPECK_PIXELS} pixels, dropped", name)
        return None
    if specks.any():
        notes.add(f"specks of 1 or {MAX_SPECK_PIXELS} pixels beside the object, dropped", name)
        mask = mask.copy()
        mask[box] &= ~np.concatenate([[False], specks])[pieces]
    if np.count_nonzero(~specks) > 1:
        notes.add("object in several pieces, kept as one", name)
    return mask
