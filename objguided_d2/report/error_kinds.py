"""What went wrong with each object: the kinds of errors that people tell apart by eye.

P predicted instances and G true objects of one image, as a label map and masks (``evaluation/compared_image.py``).

A prediction *holds* an object of its class, and an object a prediction, if it covers more than half of it.

- merged: objects that one prediction holds, two or more of them, and that prediction;
- split: an object that holds two or more predictions, and these;
- correct, boundary: what is left, paired at IoU 0.5, from IoU 0.75 on or below it;
- missed, spurious: objects and predictions without any of these, but for predictions in crowd regions.
"""

from dataclasses import dataclass

import numpy as np

from ..evaluation.compared_image import ComparedImage
from ..evaluation.matching import match

KINDS = ("correct", "boundary", "merged", "split", "missed", "spurious")
PAIR_IOU = 0.5
CORRECT_IOU = 0.75


@dataclass(frozen=True)
class ErrorKinds:
    """Index into KINDS of each prediction (P,) and object (G,); -1 for a prediction that counts as nothing."""

    predicted: np.ndarray
    true: np.ndarray

    def count(self) -> dict[str, int]:
        """Objects of each kind; of "spurious", predictions."""
        counts = {kind: int(np.count_nonzero(self.true == k)) for k, kind in enumerate(KINDS)}
        counts["spurious"] = int(np.count_nonzero(self.predicted == KINDS.index("spurious")))
        return counts


def classify(image: ComparedImage) -> ErrorKinds:
    """Tell the kind of every prediction and object."""
    overlaps = image.overlaps_in_class
    shared, predicted_area, true_area = overlaps.intersection, overlaps.predicted_area, overlaps.true_area
    predicted = np.full(len(predicted_area), KINDS.index("spurious"))
    true = np.full(len(true_area), KINDS.index("missed"))

    prediction_holds = 2 * shared > true_area
    object_holds = (2 * shared > predicted_area[:, None]) & (predicted_area[:, None] > 0)
    merging = prediction_holds.sum(axis=1) >= 2
    merged = prediction_holds[merging].any(axis=0)
    splitting = (object_holds.sum(axis=0) >= 2) & ~merged
    split = object_holds[:, splitting].any(axis=1) & ~merging
    predicted[merging], true[merged] = KINDS.index("merged"), KINDS.index("merged")
    predicted[split], true[splitting] = KINDS.index("split"), KINDS.index("split")

    rows, columns = np.flatnonzero(~merging & ~split), np.flatnonzero(~merged & ~splitting)
    iou = overlaps.iou[np.ix_(rows, columns)]
    p, g = match(iou, PAIR_IOU)
    kind = np.where(iou[p, g] >= CORRECT_IOU, KINDS.index("correct"), KINDS.index("boundary"))
    predicted[rows[p]], true[columns[g]] = kind, kind
    predicted[image.ignored & (predicted == KINDS.index("spurious"))] = -1
    return ErrorKinds(predicted, true)
