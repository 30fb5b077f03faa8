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
TASKS = {
    "bbox": _COCO.format("boxes"),
    "segm": _COCO.format("masks"),
    "voc_dec": _VOC.format("boxes"),
    "voc_seg": _VOC.format("masks"),
}
_MEAN = "mean over IoU thresholds 0.50:0.05:0.95"
_AREAS = {"s": "under 32^2", "m": "of 32^2 to 96^2", "l": "over 96^2"}


def definition_of(task: str, metric: str) -> str:
    """The meaning of one number, in full.

    Returns:
        Its definition; empty for a task that is not in ``TASKS`` (an evaluator from outside).
    """
    return f"{TASKS[task]}; {_selection(metric)}" if task in TASKS else ""


def format_results(results: Mapping[str, Mapping[str, float]]) -> str:
    """A table per task: what it measures, then name, value and definition of each metric.

    Args:
        results: task -> metric -> value, as evaluators return it. A value that is undefined (nan) shows as "-".
    """
    return "\n\n".join(_format_task(task, metrics) for task, metrics in results.items())


def _format_task(task: str, metrics: Mapping[str, float]) -> str:
    rows = [
        (f"{task}/{name}", f"{value:.2f}" if math.isfinite(value) else "-", _selection(name) if task in TASKS else "")
        for name, value in metrics.items()
    ]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "left"))
    return f"{task}: {TASKS.get(task, '')}\n{table}"


def _selection(metric: str) -> str:
    """Which thresholds, classes and objects a number is taken over."""
    if metric == "AP":
        return f"{_MEAN} and classes"
    if metric.startswith("AP-"):
        return f"{_MEAN}, class '{metric[3:]}' alone"
    if match := re.fullmatch(r"AP(\d\d)", metric):
        return f"IoU threshold 0.{match[1]}, mean over classes"
    if match := re.fullmatch("AP([sml])", metric):
        return f"{_MEAN} and classes, objects {_AREAS[match[1]]} pixels; undefined without any"
    raise ValueError(f"No definition for metric '{metric}'")
