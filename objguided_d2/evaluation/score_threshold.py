"""The score from which detections are worth keeping."""

from collections.abc import Sequence

import numpy as np

from .matched_detections import MatchedDetections, f1_by_score

_CANDIDATES = np.arange(1, 50) / 50
# F1 that a few objects more or less make.
_TOLERANCE = 0.005


def best_score_threshold(matched: Sequence[MatchedDetections], former: float) -> float:
    """The score threshold with the best F1 at IoU 0.5.

    Of those that are as good but for half a percent, the one nearest to the threshold that was used before, which stays
    where it is among them: F1 is flat around its best.

    Args:
        matched: of each class with objects.
        former: the threshold so far.
    """
    candidates = np.append(_CANDIDATES, former)
    f1 = f1_by_score(matched, candidates)
    if not f1.max(initial=0.0) > 0:  # nan without objects
        return former
    good = candidates[f1 >= f1.max() - _TOLERANCE]
    return float(good[np.argmin(np.abs(good - former))])
