"""Scored instances that may overlap -> one label per pixel, and what label maps and true masks have in common.

P predicted instances, G true objects, (H, W) pixels of one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pycocotools.mask as mask_util

from ..utils.rle import decode_in_box


def paint_label_map(rles: Sequence[dict], scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The rule by which instances share the pixels: each pixel goes to the best-scored instance that covers it.

    Every measure on label maps and every label map that is written follows it.

    Args:
        rles: P compressed RLEs of ``size``.
        scores: (P,). Of equal scores the earlier instance wins.
        size: height and width.

    Returns:
        (H, W) int32: 0 or 1 + the index of an instance. An instance that others cover altogether has no pixel.
    """
    label_map = np.zeros(size, np.int32)
    for index in np.argsort(-np.asarray(scores), kind="stable")[::-1]:
        box, mask = decode_in_box(rles[index])
        label_map[box][mask] = index + 1
    return label_map


@dataclass(frozen=True)
class Overlaps:
    """Pixel counts of one image: intersection (P, G), predicted_area (P,), true_area (G,), all int64."""

    intersection: np.ndarray
    predicted_area: np.ndarray
    true_area: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """(P, G); 0 where both are empty."""
        union = self.predicted_area[:, None] + self.true_area - self.intersection
        return self.intersection / np.maximum(union, 1)

    @property
    def dice(self) -> np.ndarray:
        """(P, G); 0 where both are empty."""
        return 2 * self.intersection / np.maximum(self.predicted_area[:, None] + self.true_area, 1)


def count_overlaps(label_map: np.ndarray, num_predicted: int, true_rles: Sequence[dict]) -> Overlaps:
    """Count the pixels that labels and true masks share. True masks may overlap each other.

    Args:
        label_map: (H, W) with labels 0 to ``num_predicted``.
        num_predicted: P.
        true_rles: G compressed RLEs of the same size.
    """
    intersection = np.zeros((num_predicted, len(true_rles)), np.int64)
    for g, rle in enumerate(true_rles):
        box, mask = decode_in_box(rle)
        intersection[:, g] = np.bincount(label_map[box][mask], minlength=num_predicted + 1)[1:]
    return Overlaps(
        intersection,
        np.bincount(label_map.ravel(), minlength=num_predicted + 1)[1:],
        np.array([mask_util.area(rle) for rle in true_rles], np.int64),
    )
