"""What each number of an evaluation means, in words that are printed beside it."""

import math
import re
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from detectron2.evaluation.testing import flatten_results_dict

_COCO = "COCO AP (101 recalls, a detection may take its second-best object), {} IoU, at most TEST.DETECTIONS_PER_IMAGE"
_VOC = "VOC2010 AP (area under the precision envelope, only the best-overlapping object counts), {} IoU"
TASKS = {
    "bbox": _COCO.format("box"),
    "segm": _COCO.format("mask"),
    "voc_dec": _VOC.format("box"),
    "voc_seg": _VOC.format("mask"),
}
_AREAS = {"s": "under 32^2 pixels", "m": "of 32^2 to 96^2 pixels", "l": "over 96^2 pixels"}


def definition_of(metric: str) -> str:
    """The meaning of a metric.

    Args:
        metric: ``task/metric``, as Detectron2's ``flatten_results_dict`` names it.

    Returns:
        Its definition; empty for a task that is not in ``TASKS`` (an evaluator from outside).
    """
    task, _, name = metric.partition("/")
    if task not in TASKS:
        return ""
    return f"{TASKS[task]}; {_selection(name)}; percent"


def format_results(results: Mapping[str, Any]) -> str:
    """One table with a line per metric: its name, value and definition.

    Args:
        results: task -> metric -> value, as evaluators return it. A value that is undefined (nan) shows as "-".
    """
    rows = [
        (name, f"{value:.2f}" if math.isfinite(value) else "-", definition_of(name))
        for name, value in flatten_results_dict(results).items()
    ]
    return tabulate(rows, headers=("metric", "value", "definition"), disable_numparse=True, colalign=("left", "right"))


def _selection(name: str) -> str:
    if name == "AP":
        return "mean over IoU thresholds 0.50:0.05:0.95 and classes"
    if name.startswith("AP-"):
        return f"mean over IoU thresholds 0.50:0.05:0.95 of class '{name[3:]}'"
    if match := re.fullmatch(r"AP(\d\d)", name):
        return f"at IoU threshold 0.{match[1]}, mean over classes"
    if match := re.fullmatch("AP([sml])", name):
        return f"as AP, objects {_AREAS[match[1]]} only, undefined where there is none"
    raise ValueError(f"No definition for metric '{name}'")
