"""One-to-one matching: true positives, false positives and false negatives, and the measures made of them.

P predicted instances, G true objects, T IoU thresholds.

At a threshold, predictions and objects are paired one to one so that as many pairs as possible have at least that IoU
and, among such pairings, the sum of IoU is largest (StarDist's rule). TP are the pairs, FP and FN the predictions and
objects without a pair.
"""

import re
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from scipy.optimize import linear_sum_assignment

from .base import IOU_THRESHOLDS, LABEL_MAP, MEAN_OVER_IOU, LabelMapEvaluator, register_evaluator
from .compared_image import ComparedImage

# name in the results -> attribute of MatchCounts
RATIOS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "pq": "panoptic_quality",
    "matched_iou": "mean_matched_iou",
}
COUNTS = ("tp", "fp", "fn")


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
        """TP / (TP + FP); 1 with neither predictions nor objects, else 0 without predictions."""
        return _ratio(self.tp, self.tp + self.fp, empty=self.fn == 0)

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN); 1 with neither predictions nor objects, else 0 without objects."""
        return _ratio(self.tp, self.tp + self.fn, empty=self.fp == 0)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN); 1 with neither predictions nor objects."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def accuracy(self) -> np.ndarray:
        """TP / (TP + FP + FN); 1 with neither predictions nor objects."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def panoptic_quality(self) -> np.ndarray:
        """F1 x mean IoU of the pairs (Kirillov et al., CVPR 2019); 1 with neither predictions nor objects."""
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
    iou: np.ndarray, ignored: np.ndarray | None = None, thresholds: np.ndarray = IOU_THRESHOLDS
) -> MatchCounts:
    """Count TP, FP and FN of one class in one image.

    Args:
        iou: (P, G).
        ignored: (P,) bool, predictions (in a crowd region) that are no false positives; a pair counts all the same.
        thresholds: (T,).
    """
    counted = np.ones(len(iou), bool) if ignored is None else ~ignored
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


@register_evaluator("matching")
class MatchingEvaluator(LabelMapEvaluator):
    """The measures of :class:`MatchCounts` at IoU 0.50:0.05:0.95, and Kaggle's mean of image accuracies."""

    tasks = {
        "matching": f"One-to-one matching of objects, percent and counts, {LABEL_MAP}; as many pairs as the IoU allows"
    }
    metrics = {
        "accuracy": "TP / (TP + FP + FN) over all images, StarDist's average precision",
        "image_accuracy": "TP / (TP + FP + FN) of each image, mean over images, the score of Kaggle's DSB2018",
        "precision": "TP / (TP + FP) over all images",
        "recall": "TP / (TP + FN) over all images",
        "f1": "2 TP / (2 TP + FP + FN) over all images",
        "pq": "panoptic quality, f1 x matched_iou",
        "matched_iou": "mean IoU of the pairs",
        "tp": "true positives, pairs of an instance and an object",
        "fp": "false positives, instances without an object",
        "fn": "false negatives, objects without an instance",
    }

    @classmethod
    def definition(cls, metric: str) -> str | None:
        if metric.startswith("accuracy-"):
            return f"{cls.metrics['accuracy']}; {MEAN_OVER_IOU}, class '{metric[9:]}' alone"
        name, threshold = re.fullmatch(r"(.*?)(\d\d)?", metric).groups()
        if name not in cls.metrics:
            return None
        return f"{cls.metrics[name]}; " + (f"IoU threshold 0.{threshold}" if threshold else MEAN_OVER_IOU)

    def measure(self, image: ComparedImage) -> dict[int, MatchCounts]:
        """Class index -> counts; classes with neither objects nor predictions are left out."""
        counts = {}
        for index in np.union1d(image.predicted_classes, image.true_classes).tolist():
            predicted = image.predicted_classes == index
            iou = image.iou[predicted][:, image.true_classes == index]
            counts[index] = count_matches(iou, image.ignored[predicted])
        return counts

    def summarize(self, records: list[dict[int, MatchCounts]]) -> dict[str, float]:
        zero = MatchCounts.zero(len(IOU_THRESHOLDS))
        per_image = [reduce(add, record.values(), zero) for record in records]
        total = reduce(add, per_image, zero)
        per_class: dict[int, MatchCounts] = {}
        for record in records:
            for index, counts in record.items():
                per_class[index] = per_class.get(index, zero) + counts
        with_objects = {index: counts for index, counts in sorted(per_class.items()) if counts.tp[0] + counts.fn[0]}

        summary: dict[str, float] = {}
        for name, attribute in RATIOS.items():
            values = [getattr(counts, attribute) for counts in with_objects.values()]
            _put(summary, name, 100 * np.mean(values or [np.zeros(len(IOU_THRESHOLDS))], axis=0))
        image_accuracy = np.mean([counts.accuracy for counts in per_image], axis=0) if with_objects else zero.tp
        _put(summary, "image_accuracy", 100 * image_accuracy)
        for name in COUNTS:
            _put(summary, name, getattr(total, name), mean=False)
        names = self._metadata.thing_classes
        if len(names) > 1:
            summary.update({f"accuracy-{names[i]}": float(100 * c.accuracy.mean()) for i, c in with_objects.items()})
        return summary


def _put(summary: dict[str, float], name: str, values: np.ndarray, mean: bool = True) -> None:
    if mean:
        summary[name] = float(values.mean())
    summary.update({f"{name}{round(100 * t)}": float(value) for t, value in zip(IOU_THRESHOLDS, values)})
