"""Counts of found, missed and invented objects by one-to-one matching, and the measures made of them.

P predicted instances, G true objects, T IoU thresholds.

At a threshold, predictions and objects are paired one to one so that as many pairs as possible have at least that IoU
and, among such pairings, the sum of IoU is largest (StarDist's rule). TP are the pairs, FP and FN what is left over.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from .voc2010 import IOU_THRESHOLDS


@dataclass(frozen=True)
class MatchCounts:
    """Counts at T thresholds, each (T,): tp, fp, fn, and the sum of IoU over the pairs."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    iou_sum: np.ndarray

    @classmethod
    def zero(cls, num_thresholds: int) -> "MatchCounts":
        return cls(*np.zeros((4, num_thresholds)))

    def __add__(self, other: "MatchCounts") -> "MatchCounts":
        return MatchCounts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.iou_sum + other.iou_sum)

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP); 1 with nothing predicted and nothing to find, else 0 with nothing predicted."""
        return _ratio(self.tp, self.tp + self.fp, empty=self.fn == 0)

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN); 1 with nothing to find and nothing predicted, else 0 with nothing to find."""
        return _ratio(self.tp, self.tp + self.fn, empty=self.fp == 0)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN); 1 with nothing to find and nothing predicted."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> np.ndarray:
        """TP / (TP + FP + FN); 1 with nothing to find and nothing predicted."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def panoptic_quality(self) -> np.ndarray:
        """F1 x mean IoU of the pairs (Kirillov et al., CVPR 2019); 1 with nothing to find and nothing predicted."""
        return _ratio(2 * self.iou_sum, 2 * self.tp + self.fp + self.fn)

    @property
    def mean_matched_iou(self) -> np.ndarray:
        """Mean IoU of the pairs; 0 without any."""
        return _ratio(self.iou_sum, self.tp, empty=False)


def match(iou: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The optimal pairs at one threshold.

    Args:
        iou: (P, G).
        threshold: in (0, 1].

    Returns:
        predicted, true: indices of the pairs, ordered by ``predicted``.
    """
    passing = iou >= threshold
    rows, columns = np.flatnonzero(passing.any(axis=1)), np.flatnonzero(passing.any(axis=0))
    candidates = np.ix_(rows, columns)
    # All IoU of a pairing together weigh less than one more pair.
    gain = np.where(passing[candidates], 1 + iou[candidates] / (2 * max(1, min(len(rows), len(columns)))), 0)
    row, column = linear_sum_assignment(gain, maximize=True)
    kept = gain[row, column] > 0
    return rows[row[kept]], columns[column[kept]]


def count_matches(
    iou: np.ndarray, in_crowd: np.ndarray | None = None, thresholds: np.ndarray = IOU_THRESHOLDS
) -> MatchCounts:
    """Count TP, FP and FN of one class in one image.

    Args:
        iou: (P, G).
        in_crowd: (P,) bool, predictions inside a crowd region: left over, they count as nothing.
        thresholds: (T,).
    """
    counted = np.ones(len(iou), bool) if in_crowd is None else ~in_crowd
    tp, fp, iou_sum = np.zeros((3, len(thresholds)))
    for t, threshold in enumerate(thresholds):
        predicted, true = match(iou, threshold)
        tp[t] = len(predicted)
        fp[t] = np.count_nonzero(np.delete(counted, predicted))
        iou_sum[t] = iou[predicted, true].sum()
    return MatchCounts(tp, fp, iou.shape[1] - tp, iou_sum)


def _ratio(part: np.ndarray, whole: np.ndarray, empty: np.ndarray | bool = True) -> np.ndarray:
    """part / whole, and 1 or 0 as ``empty`` says where the whole is nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.asarray(empty, float))
