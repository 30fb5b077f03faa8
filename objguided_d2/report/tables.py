"""The tables of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .bootstrap import draw_weights, interval, paired_p_value
from .collect import Comparison
from .options import BEST
from .runs import Run
from .scores import Scores
from .speed import Speed

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
    "boundary/matched_IoU": "boundary IoU of matched",
    "fragments/broken": "broken, per 1,000",
}
_SPEED = (
    "Speed and memory measured here: one image at a time, the models in interleaved rounds, median and quartiles; the "
    "image of median object count among those with objects."
)


@dataclass(frozen=True)
class Uncertainty:
    """Of COCO AP of masks in percent: its 95 % interval, that of the difference to the first method, and its p-value.

    The last two are None for the first method itself.
    """

    low: float
    high: float
    difference: tuple[float, float] | None
    p_value: float | None


def comparison_tables(
    comparison: Comparison, intervals: Sequence[Uncertainty]
) -> list[tuple[str, str, list[str], list[list[str]]]]:
    """(title, note, header, rows) of quality, confidence intervals and cost."""
    options, scores = comparison.options, comparison.scores
    return [
        (
            "Quality",
            f"Percent. COCO AP of masks, VOC2010 AP of masks and boxes at up to {options.limit} detections per image "
            f"(label images: all); the last four on label maps of scores from {_thresholds(comparison)} on, boundary "
            f"IoU within {options.boundary_distance} pixels, broken the objects found in more pieces than they have.",
            ["method", *METRICS.values()],
            metric_rows(scores),
        ),
        (
            "Confidence intervals",
            f"COCO AP of masks with its 95 % bootstrap interval over images ({options.resamples} resamples, the same "
            "for all methods), the difference to the first method with its interval, and its two-sided p-value, which "
            f"the resamples resolve to {1 / options.resamples:.3g}. This is about other images: what another seed of "
            "the same training would give is not in it.",
            ["method", "AP", "difference", "p"],
            uncertainty_rows(list(scores), intervals, list(scores.values())),
        ),
        (
            "Cost",
            "Training as far as the run folder tells. "
            + (_SPEED if options.with_speed else "Speed and memory were not measured."),
            ["method", "training minutes", "images seen", "parameters, M", "GFLOPs", "images/s", "peak memory, MB"],
            [_cost_row(run, comparison.speeds.get(run.name)) for run in comparison.runs],
        ),
    ]


def _thresholds(comparison: Comparison) -> str:
    by_run = comparison.score_thresholds
    values = set(by_run.values())
    is_best = comparison.options.score_threshold == BEST
    if len(values) == 1 and not is_best:
        return f"{values.pop():g}"
    listed = ", ".join(f"{name} {value:g}" for name, value in by_run.items())
    kind = "threshold of best F1 at IoU 0.5 on these images" if is_best else "threshold"
    return f"each run's own {kind} ({listed})"


def _cost_row(run: Run, speed: Speed | None) -> list[str]:
    minutes = "-" if not run.minutes else f"{run.minutes:.1g}" if run.minutes < 1 else f"{run.minutes:.0f}"
    training = [minutes, str(run.images_seen) if run.images_seen else "-"]
    if speed is None:
        return [run.name, *training, "-", "-", "-", "-"]
    median, low, high = speed.images_per_second
    return [
        run.name,
        *training,
        f"{speed.parameters:.1f}",
        f"{speed.gflops:.1f}",
        f"{median:.2f} ({low:.2f} to {high:.2f})",
        f"{speed.peak_megabytes:.0f}",
    ]


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
    """One row per method: name, then METRICS; "-" for what is undefined."""
    return [[name, *(_number(score.metrics[key]) for key in METRICS)] for name, score in scores.items()]


def uncertainty_rows(
    names: Sequence[str], intervals: Sequence[Uncertainty], scores: Sequence[Scores]
) -> list[list[str]]:
    """One row per method: name, AP with its interval, difference to the first with its interval, p-value."""
    first = 100 * scores[0].average_precision
    rows = []
    for name, one, score in zip(names, intervals, scores):
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
