"""COCO's matching of detections to objects, fast enough for images with hundreds of both.

T IoU thresholds, D detections and G objects of one class in one image.
"""

from typing import Any

import numpy as np
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets


class SparseCOCOeval(COCOevalMaxDets):
    """``COCOeval`` with the same results that looks only at pairs above the lowest IoU threshold.

    The original visits every detection, object and threshold in Python: minutes for a hundred images with 500
    detections each. Unlike it, an annotation with id 0 can be found. Boxes and masks, classes apart.
    """

    def evaluateImg(self, imgId: Any, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:
        """Match one image and class; what :meth:`accumulate` reads of the result of the original."""
        objects, detections = self._gts[imgId, catId], self._dts[imgId, catId]
        if not objects and not detections:
            return None
        scores = np.array([detection["score"] for detection in detections])
        by_score = np.argsort(-scores, kind="stable")[:maxDet]
        ignored = np.array([bool(o["ignore"]) or _is_outside(o["area"], aRng) for o in objects], dtype=bool)
        # COCOeval computes IoUs in the order of scores, and an empty list where one side is empty.
        iou = np.asarray(self.ious[imgId, catId])[:maxDet] if objects else np.zeros((len(by_score), 0))
        matched, matched_ignored = _match(
            iou.reshape(len(by_score), len(objects)),
            np.minimum(self.params.iouThrs, 1 - 1e-10),
            ignored,
            np.array([bool(o.get("iscrowd", 0)) for o in objects], dtype=bool),
        )
        outside = np.array([_is_outside(detections[i]["area"], aRng) for i in by_score], dtype=bool)
        return {
            "dtScores": scores[by_score],
            "dtMatches": matched,
            "dtIgnore": matched_ignored | (~matched & outside),
            "gtIgnore": ignored,
        }


def _match(
    iou: np.ndarray, thresholds: np.ndarray, ignored: np.ndarray, is_crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give each detection, best score first, the free object it overlaps most.

    Objects that count go before ignored ones, however much they overlap. Only crowds can be taken more than once.

    Args:
        iou: (D, G), detections by descending score.
        thresholds: (T,), each above 2**-10.
        ignored, is_crowd: (G,) bool.

    Returns:
        matched (T, D) bool; whether that is with an ignored object (T, D) bool.
    """
    num_thresholds, num_detections = len(thresholds), len(iou)
    matched = np.zeros((num_thresholds, num_detections), dtype=bool)
    matched_ignored = np.zeros_like(matched)
    free = np.ones((num_thresholds, iou.shape[1]), dtype=bool)
    # A power of two keeps the order among ignored objects exactly and puts them below all others.
    preference = np.where(ignored, 2.0**-10, 1.0)
    candidates = iou >= thresholds.min()
    # Of equal overlaps the last one is taken, where ignored objects stand last.
    order = np.argsort(ignored, kind="stable")[::-1]
    rows = np.arange(num_thresholds)
    for d in np.flatnonzero(candidates.any(axis=1)):
        columns = order[candidates[d, order]]
        passes = free[:, columns] & (iou[d, columns] >= thresholds[:, None])
        best = columns[np.where(passes, iou[d, columns] * preference[columns], -1).argmax(axis=1)]
        matched[:, d] = passes.any(axis=1)
        matched_ignored[:, d] = matched[:, d] & ignored[best]
        takes = matched[:, d] & ~is_crowd[best]
        free[rows[takes], best[takes]] = False
    return matched, matched_ignored


def _is_outside(area: float, area_range: list[float]) -> bool:
    return area < area_range[0] or area > area_range[1]
