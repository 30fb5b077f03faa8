"""Confidence intervals of AP by the bootstrap: images resampled with replacement, alike for all methods compared.

N images, D detections of all images, T IoU thresholds, B resamples.
"""

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


def draw_weights(num_images: int, num_resamples: int, seed: int = 0) -> np.ndarray:
    """(B, N) how often each image is drawn in each resample of N images."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=num_resamples)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central range of resampled values that holds this fraction of them."""
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided bootstrap p-value of no difference, from values on the same resamples.

    Twice the smaller fraction of resamples on one side of zero; at least 1 / B, since no resample on the other side is
    not the same as none there could be.
    """
    difference = (first - second)[np.isfinite(first - second)]
    below, above = np.mean(difference <= 0), np.mean(difference >= 0)
    return float(min(1.0, max(2 * min(below, above), 1 / len(difference))))
