"""Found, missed and invented objects of a data set: accuracy, precision, recall, F1, panoptic quality."""

from functools import reduce
from operator import add

import numpy as np

from .compared_image import ComparedImage
from .label_map_evaluator import LabelMapEvaluator
from .matching import MatchCounts, count_matches
from .voc2010 import IOU_THRESHOLDS

# name in the results -> attribute of MatchCounts
SHARES = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "pq": "panoptic_quality",
    "matched_iou": "mean_matched_iou",
}
COUNTS = ("tp", "fp", "fn")


class MatchingEvaluator(LabelMapEvaluator):
    """Measures of :class:`.matching.MatchCounts` at IoU 0.50:0.05:0.95, and Kaggle's mean of image accuracies."""

    task = "matching"

    def measure(self, image: ComparedImage) -> dict[int, MatchCounts]:
        """Class index -> counts; classes with neither objects nor predictions are left out."""
        counts = {}
        for index in np.union1d(image.predicted_classes, image.true_classes).tolist():
            of_class = image.predicted_classes == index
            iou = image.iou[of_class][:, image.true_classes == index]
            counts[index] = count_matches(iou, image.uncounted[of_class])
        return counts

    def summarize(self, records: list[dict[int, MatchCounts]]) -> dict[str, float]:
        zero = MatchCounts.zero(len(IOU_THRESHOLDS))
        of_images = [reduce(add, record.values(), zero) for record in records]
        total = reduce(add, of_images, zero)
        per_class: dict[int, MatchCounts] = {}
        for record in records:
            for index, counts in record.items():
                per_class[index] = per_class.get(index, zero) + counts
        with_objects = {index: counts for index, counts in sorted(per_class.items()) if counts.tp[0] + counts.fn[0]}

        summary: dict[str, float] = {}
        for name, attribute in SHARES.items():
            values = [getattr(counts, attribute) for counts in with_objects.values()]
            _put(summary, name, 100 * np.mean(values or [np.zeros(len(IOU_THRESHOLDS))], axis=0))
        image_accuracy = np.mean([counts.accuracy for counts in of_images], axis=0) if with_objects else zero.tp
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
