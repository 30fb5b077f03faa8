"""The figures of a comparison with their captions."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.strategies import Strategy
from ..evaluation.compared_image import ComparedImage
from ..utils.contact_sheet import contact_sheet
from .collect import Comparison
from .page import Figure
from .panels import PANEL_SIDE, legend_in_words, panel_row
from .plots import (
    plot_ablation,
    plot_ap_by_threshold,
    plot_bars,
    plot_calibration,
    plot_f1_by_score,
    plot_precision_recall,
    plot_recall_by_size,
    plot_training,
)
from .tables import Uncertainty


def plot_figures(comparison: Comparison, intervals: Sequence[Uncertainty]) -> list[Figure]:
    """The plots of the scores, and of the training where it is known."""
    scores = comparison.scores
    bars = {
        name: (100 * score.average_precision, one.low, one.high)
        for (name, score), one in zip(scores.items(), intervals)
    }
    figures = [
        Figure("AP by IoU threshold", "VOC2010 AP of masks at each threshold.", plot_ap_by_threshold(scores)),
        Figure("AP with its interval", "COCO AP of masks, 95 % bootstrap interval.", plot_bars(bars, "AP, %")),
        Figure("Precision and recall", "At IoU 0.5, precision made monotone.", plot_precision_recall(scores)),
        Figure("Recall by size", "Recall at IoU 0.5 in the label map, by object size.", plot_recall_by_size(scores)),
        Figure(
            "F1 by score threshold",
            "F1 at IoU 0.5 of the detections from a score on. The legend has each method's best and the score for it: "
            "what a threshold of its own, chosen on these images, would give.",
            plot_f1_by_score(scores),
        ),
        Figure("Calibration", "How often detections of a score are true at IoU 0.5.", plot_calibration(scores)),
    ]
    if (training := plot_training(comparison.runs)) is not None:
        figures.append(Figure("Training", "Evaluations while training.", training))
    return figures


def ablation_figure(results: Mapping[Strategy, Sequence[Mapping[str, float]]]) -> Figure:
    """Bars of the sampling strategies, see :func:`..engine.ablation.read_ablation`."""
    fewest, most = (limit(map(len, results.values())) for limit in (min, max))
    return Figure(
        "Ablation",
        "Final metrics of each sampling strategy (k, beta) of the refinement: mean and standard deviation over seeds "
        f"({most if fewest == most else f'{fewest} to {most}'} of each). Bars start at the mean of the first one.",
        plot_ablation(results),
        wide=True,
    )


def panel_figures(examples: Mapping[str, Mapping[str, ComparedImage]], image_root: Path) -> list[Figure]:
    """The same images by all methods, whole and in detail.

    Args:
        examples: why an image was chosen -> name of each run -> its predictions there.
    """
    if not examples:
        return []
    names = list(next(iter(examples.values())))
    files = [f"{reason}, {compared[names[0]].record['file_name']}" for reason, compared in examples.items()]
    description = f"Rows: {'; '.join(files)}. Columns: truth, {', '.join(names)}."
    figures = []
    for zoomed, title, caption in (
        (False, "Examples", f"Chosen by rule. Truth in white; the rest is {legend_in_words()}."),
        (True, "Examples in detail", "The part of the same images where the methods disagree most."),
    ):
        rows = [panel_row(compared, image_root, reason, zoomed=zoomed) for reason, compared in examples.items()]
        sheet = contact_sheet(sum(rows, []), len(rows[0]), tile_size=(PANEL_SIDE, PANEL_SIDE))
        figures.append(Figure(title, caption, sheet, wide=True, description=f"{title}. {description}"))
    return figures
