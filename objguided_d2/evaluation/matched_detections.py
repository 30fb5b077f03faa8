"""Detections after they were matched to objects: AP of any weighting of the images, and F1 by score.

N images, D detections of all images, T IoU thresholds, B resamples, S scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pycocotools.cocoeval import COCOeval

RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class MatchedDetections:
    """What AP is made of, for one class: detections sorted by score, best first.

    Attributes:
        scores: (D,).
        image: (D,) index of each detection's image.
        true: (T, D) bool, whether it is a true positive.
        ignored: (T, D) bool, whether it is neither a true nor a false positive.
        num_objects: (N,) objects of each image.
    """

    scores: np.ndarray
    image: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    num_objects: np.ndarray

    @classmethod
    def from_coco(cls, evaluated: COCOeval, category_id: int) -> "MatchedDetections":
        """Take over the matches of an evaluation whose first size range is all, after its ``evaluate()``."""
        params = evaluated.params
        category = list(params.catIds).index(category_id)
        num_images = len(params.imgIds)
        # The order of COCOeval: category, then size, then image.
        start = category * len(params.areaRng) * num_images
        by_image = evaluated.evalImgs[start : start + num_images]
        evaluations = [(index, result) for index, result in enumerate(by_image) if result is not None]
        num_objects = np.zeros(num_images, np.int64)
        for index, result in evaluations:
            num_objects[index] = np.count_nonzero(~np.asarray(result["gtIgnore"], bool))
        num_thresholds = len(params.iouThrs)
        scores = np.concatenate([np.zeros(0), *(result["dtScores"] for _, result in evaluations)])
        order = np.argsort(-scores, kind="stable")
        image = np.concatenate([np.zeros(0, int), *(np.full(len(r["dtScores"]), i) for i, r in evaluations)])
        none = np.zeros((num_thresholds, 0), bool)
        true, ignored = (
            np.concatenate([none, *(np.asarray(result[key], bool) for _, result in evaluations)], axis=1)[:, order]
            for key in ("dtMatches", "dtIgnore")
        )
        return cls(scores[order], image[order], true, ignored, num_objects)

    @classmethod
    def by_class(cls, evaluated: COCOeval) -> "list[MatchedDetections]":
        """Of each class with objects, see :meth:`from_coco`."""
        matched = [cls.from_coco(evaluated, category_id) for category_id in evaluated.params.catIds]
        return [one for one in matched if one.num_objects.sum()]

    @cached_property
    def average_precision(self) -> float:
        """COCO AP, mean over the thresholds, in [0, 1]."""
        return float(self.resampled(np.ones((1, len(self.num_objects)), np.int64))[0])

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """COCO AP where each image counts as often as its weight says.

        Args:
            weights: (B, N) integers.

        Returns:
            (B,) means over the thresholds, in [0, 1]; nan where the resample has no object.
        """
        result = np.full(len(weights), np.nan)
        for b, by_image in enumerate(weights):
            total = int(by_image @ self.num_objects)
            if total:
                result[b] = np.mean([self._precision(t, by_image[self.image], total) for t in range(len(self.true))])
        return result

    def precision_at_recalls(self, threshold: int) -> np.ndarray:
        """(101,) precision made monotone, at RECALLS, for one of the T thresholds."""
        return self._precision(threshold, np.ones(len(self.image), np.int64), int(self.num_objects.sum()))

    def _precision(self, threshold: int, weight: np.ndarray, total: int) -> np.ndarray:
        counted = weight * ~self.ignored[threshold]
        true_positives = np.cumsum(counted * self.true[threshold])
        considered = np.cumsum(counted)
        precision = true_positives / np.maximum(considered, 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        index = np.searchsorted(true_positives / total, RECALLS, side="left")
        return np.concatenate([envelope, [0.0]])[np.minimum(index, len(envelope))]


def counted_detections(matched: Sequence[MatchedDetections], threshold_index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (D,) of the detections that are true or false at one of the T thresholds, and whether true (D,) bool.

    Args:
        matched: of each class; one at least. The detections are those of class after class.
    """
    counted = [~one.ignored[threshold_index] for one in matched]
    values = np.concatenate([one.scores[c] for one, c in zip(matched, counted)])
    true = np.concatenate([one.true[threshold_index][c] for one, c in zip(matched, counted)])
    return values, true


def f1_by_score(
    matched: Sequence[MatchedDetections], score_thresholds: np.ndarray, threshold_index: int = 0
) -> np.ndarray:
    """F1 of the detections from a score on, classes counted together, at one of the T thresholds.

    Better-scored detections choose their objects first, so leaving out the others changes no match.

    Args:
        matched: of each class with objects.
        score_thresholds: (S,).

    Returns:
        (S,) in [0, 1]; nan if there is no object.
    """
    if not matched:
        return np.full(len(score_thresholds), np.nan)
    values, true = counted_detections(matched, threshold_index)
    order = np.argsort(-values, kind="stable")
    num_kept = np.searchsorted(-values[order], -np.asarray(score_thresholds), side="right")
    num_true = np.concatenate([[0], np.cumsum(true[order])])[num_kept]
    return 2 * num_true / (num_kept + sum(one.num_objects.sum() for one in matched))
