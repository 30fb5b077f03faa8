"""The tables of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import draw_weights, interval, paired_p_value
from .scores import Scores

METRICS = {
    "segm/AP": "AP",
    "segm/AP50": "AP50",
    "segm/AP75": "AP75",
    "segm/APs": "APs",
    "segm/APm": "APm",
    "segm/APl": "APl",
    "voc_seg/AP": "AP^seg",
    "voc_dec/AP": "AP^dec",
    "matching/accuracy50": "accuracy at 0.5",
    "matching/f150": "F1 at 0.5",
    "boundary/matched_IoU": "boundary IoU of found",
}


@dataclass(frozen=True)
class Uncertainty:
    """Of COCO AP of masks in percent: its 95 % interval, that of the difference to the first method, and its p-value.

    The last two are None for the first method itself.
    """

    low: float
    high: float
    difference: tuple[float, float] | None
    p_value: float | None


def uncertainties(scores: Sequence[Scores], num_resamples: int, seed: int = 0) -> list[Uncertainty]:
    """Bootstrap over images, the same resamples for all methods.

    Args:
        scores: of each method on the same images.
    """
    num_images = len(scores[0].image_accuracy)
    weights = draw_weights(num_images, num_resamples, seed)
    values = [100 * score.resampled(weights) for score in scores]
    result = []
    for k, of_method in enumerate(values):
        compared = (None, None) if k == 0 else (interval(of_method - values[0]), paired_p_value(of_method, values[0]))
        result.append(Uncertainty(*interval(of_method), *compared))
    return result


def metric_rows(scores: Mapping[str, Scores]) -> list[list[str]]:
    """A row a method: name, then METRICS; "-" for what is undefined."""
    return [[name, *(_number(score.metrics[key]) for key in METRICS)] for name, score in scores.items()]


def uncertainty_rows(names: Sequence[str], found: Sequence[Uncertainty], scores: Sequence[Scores]) -> list[list[str]]:
    """A row a method: name, AP with its interval, difference to the first with its interval, p-value."""
    first = 100 * scores[0].average_precision
    rows = []
    for name, one, score in zip(names, found, scores):
        value = 100 * score.average_precision
        row = [name, f"{value:.1f} ({one.low:.1f} to {one.high:.1f})"]
        if one.difference is None:
            row += ["", ""]
        else:
            low, high = one.difference
            row += [f"{value - first:+.1f} ({low:+.1f} to {high:+.1f})", f"{one.p_value:.3f}"]
        rows.append(row)
    return rows


def _number(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "-"
