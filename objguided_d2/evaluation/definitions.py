"""What each number of an evaluation means, in words that are printed beside it."""

import math
import re
from collections.abc import Mapping

from tabulate import tabulate

_COCO = (
    "COCO AP of {}, percent: precision read at 101 recalls; of the objects not yet taken, a detection takes the one it "
    "overlaps most; only the best TEST.DETECTIONS_PER_IMAGE detections of an image count"
)
_VOC = (
    "VOC2010 AP of {}, percent: area under the monotone precision envelope; a detection is true only with the object "
    "that it overlaps most, if no better-scored one has taken it"
)
_LABEL_MAP = "of the instances with a score from TEST.LABEL_MAP_SCORE_THRESH, each pixel given to the best-scored one"
TASKS = {
    "bbox": _COCO.format("boxes"),
    "segm": _COCO.format("masks"),
    "voc_dec": _VOC.format("boxes"),
    "voc_seg": _VOC.format("masks"),
    "matching": f"One-to-one matching of objects, percent and counts, {_LABEL_MAP}; as many pairs as the IoU allows",
    "boundary": f"Agreement of outlines within TEST.BOUNDARY_DISTANCE pixels, percent, {_LABEL_MAP}",
    "leaf": f"Leaf Segmentation Challenge, means over images, percent and counts, {_LABEL_MAP}",
    "ctc": f"Cell Tracking Challenge on single frames, percent, {_LABEL_MAP}",
}
_MEAN = "mean over IoU thresholds 0.50:0.05:0.95"
_AREAS = {"s": "under 32^2", "m": "of 32^2 to 96^2", "l": "over 96^2"}
_MATCHING = {
    "accuracy": "TP / (TP + FP + FN) over all images, StarDist's average precision",
    "image_accuracy": "TP / (TP + FP + FN) of each image, mean over images, the score of Kaggle's DSB2018",
    "precision": "TP / (TP + FP) over all images",
    "recall": "TP / (TP + FN) over all images",
    "f1": "2 TP / (2 TP + FP + FN) over all images",
    "pq": "panoptic quality, f1 x matched_iou",
    "matched_iou": "mean IoU of the pairs",
    "tp": "pairs of an instance and an object",
    "fp": "instances without an object",
    "fn": "objects without an instance",
}
_BOUNDARY = {
    "found": "objects paired with an instance at mask IoU 0.5",
    "IoU": "boundary IoU (bands inside the outlines), mean over objects, 0 for those not found",
    "F": "boundary F (outlines), mean over objects, 0 for those not found",
    "matched_IoU": "boundary IoU, mean over the objects found",
    "matched_F": "boundary F, mean over the objects found",
}
_WHOLE = {
    "SBD": "symmetric best Dice (bestDice)",
    "DiC": "difference in count, predicted - true (diffFG)",
    "|DiC|": "absolute difference in count (absDiffFG)",
    "FgBgDice": "Dice of foreground and background",
    "SEG": "mean IoU over true objects, 0 for those of which no instance covers more than half",
    "DET": "1 - cost of corrections / cost of marking all objects anew, on frames annotated in full",
    "OP_CSB": "mean of SEG and DET",
}


def definition_of(task: str, metric: str) -> str:
    """The meaning of one number, in full.

    Returns:
        Its definition; empty for a task that is not in ``TASKS`` (an evaluator from outside).
    """
    return f"{TASKS[task]}; {_selection(task, metric)}" if task in TASKS else ""


def format_results(results: Mapping[str, Mapping[str, float]]) -> str:
    """A table per task: what it measures, then name, value and definition of each metric.

    Args:
        results: task -> metric -> value, as evaluators return it. A value that is undefined (nan) shows as "-".
    """
    return "\n\n".join(_format_task(task, metrics) for task, metrics in results.items())


def _format_task(task: str, metrics: Mapping[str, float]) -> str:
    rows = [
        (
            f"{task}/{name}",
            f"{value:.2f}" if math.isfinite(value) else "-",
            _selection(task, name) if task in TASKS else "",
        )
        for name, value in metrics.items()
    ]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "left"))
    return f"{task}: {TASKS.get(task, '')}\n{table}"


def _selection(task: str, metric: str) -> str:
    """Which thresholds, classes and objects a number is taken over, or what it is a measure of."""
    if task == "matching":
        return _matching_selection(metric)
    if task == "boundary" and (match := re.fullmatch("(.+?)([sml])?", metric)) and match[1] in _BOUNDARY:
        return _BOUNDARY[match[1]] + (f"; objects {_AREAS[match[2]]} pixels" if match[2] else "")
    if task in ("leaf", "ctc") and metric in _WHOLE:
        return _WHOLE[metric]
    if metric == "AP":
        return f"{_MEAN} and classes"
    if metric.startswith("AP-"):
        return f"{_MEAN}, class '{metric[3:]}' alone"
    if match := re.fullmatch(r"AP(\d\d)", metric):
        return f"IoU threshold 0.{match[1]}, mean over classes"
    if match := re.fullmatch("AP([sml])", metric):
        return f"{_MEAN} and classes, objects {_AREAS[match[1]]} pixels; undefined without any"
    raise ValueError(f"No definition for metric '{metric}'")


def _matching_selection(metric: str) -> str:
    if metric.startswith("accuracy-"):
        return f"{_MATCHING['accuracy']}; {_MEAN}, class '{metric[9:]}' alone"
    match = re.fullmatch(r"(.+?)(\d\d)?", metric)
    if not match or match[1] not in _MATCHING:
        raise ValueError(f"No definition for metric '{metric}'")
    return f"{_MATCHING[match[1]]}; " + (f"IoU threshold 0.{match[2]}" if match[2] else _MEAN)
