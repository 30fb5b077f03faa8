"""COCO AP by a library of choice.

T IoU thresholds, R = 101 recalls, K classes, A = 4 size ranges (all, small, medium, large), M = 3 limits.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Literal

from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .coco_numbers import numbered_coco

# Choices of TEST.COCO_EVAL.
LIBRARIES = {"faster_coco_eval": COCOeval_faster, "pycocotools": COCOevalMaxDets}


def evaluate_coco(
    ground_truth: COCO,
    results: Sequence[dict],
    task: Literal["bbox", "segm"],
    *,
    limit: int,
    library: str = "faster_coco_eval",
    image_ids: Iterable | None = None,
) -> COCOeval | COCOeval_faster:
    """Compute AP and AR of boxes or masks.

    Args:
        ground_truth: the true objects.
        results: predictions in COCO's format, with boxes or encoded masks.
        limit: the best-scored predictions that count, per image and class.
        library: one of LIBRARIES. The numbers are equal but for the last digit of a float.
        image_ids: evaluate these images only.

    Returns:
        The library's evaluation: ``stats`` (12,) are AP, AP50, AP75, APs, APm, APl, then AR at 1, at 10 and at
        ``limit`` detections and AR of the three sizes, in [0, 1]; ``eval["precision"]`` is (T, R, K, A, M) and
        ``eval["recall"]`` (T, K, A, M). -1 stands where there is no object.

    Raises:
        ValueError: if an object has no area.
        KeyError: if there is no such library.
    """
    evaluation = LIBRARIES[library](*numbered_coco(ground_truth, results, task, image_ids), task)
    # The limits are sorted, and AP is reported at the last.
    evaluation.params.maxDets = [1, min(10, limit), limit]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def match_coco(
    ground_truth: COCO, results: Sequence[dict], task: Literal["bbox", "segm"], *, limit: int
) -> COCOevalMaxDets:
    """Match predictions to objects of any size, as AP is computed from.

    Args:
        As for :func:`evaluate_coco`.

    Returns:
        pycocotools' evaluation after its ``evaluate()``: ``evalImgs`` has the matches of each class and image, which
        faster_coco_eval keeps to itself.

    Raises:
        ValueError: if an object has no area.
    """
    evaluation = COCOevalMaxDets(*numbered_coco(ground_truth, results, task), task)
    evaluation.params.maxDets = [limit]
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
    return evaluation
