"""The plots of a comparison, as SVG that takes the color of the text around it."""

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..engine.ablation import METRICS as ABLATION_METRICS
from ..engine.ablation import format_mean, mean_and_spread
from ..engine.strategies import Strategy
from ..evaluation.matched_detections import RECALLS, counted_detections, f1_by_score
from ..evaluation.voc2010 import IOU_THRESHOLDS
from ..utils.atomic_write import write_text
from .runs import Run
from .scores import Scores
from .tables import METRICS

# Okabe and Ito's colors, which color-blind people tell apart; without the two too light for a white page.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
LINES = ("-", "--", "-.", ":")
STRATEGY_KIND_COLORS = {"no refinement": "#808080", "uniform": COLORS[0], "uncertain": COLORS[1]}
# The second in inches.
_LEGEND_COLUMNS, _LEGEND_ROW_HEIGHT = 2, 0.18
# Replaced by the page's own text color: a value that nothing else has.
_INK = "#010203"
SIZE_BINS = np.array([0, 8, 12, 16, 24, 32, 48, 64, 96, np.inf])  # sqrt(area), pixels
CALIBRATION_BINS = np.linspace(0, 1, 11)
SCORE_THRESHOLDS = np.linspace(0, 1, 101)


def style_of(index: int) -> dict:
    """Color and line of the method with this index, the same in every plot."""
    return {"color": COLORS[index % len(COLORS)], "linestyle": LINES[index // len(COLORS) % len(LINES)]}


def plot_ap_by_threshold(scores: Mapping[str, Scores]) -> str:
    """AP^seg against the IoU threshold (Figure 5)."""

    def draw(axes: Axes) -> None:
        for k, (name, score) in enumerate(scores.items()):
            values = [score.metrics[f"voc_seg/AP{round(100 * t)}"] for t in IOU_THRESHOLDS]
            axes.plot(IOU_THRESHOLDS, values, marker="o", markersize=3, label=name, **style_of(k))
        axes.set(xlabel="IoU threshold", ylabel="AP$^{seg}$ (VOC2010), %", ylim=(0, 100))

    return _svg(draw)


def plot_precision_recall(scores: Mapping[str, Scores], threshold_index: int = 0) -> str:
    """Precision at each recall, monotone as AP takes it, at one IoU threshold; mean over classes."""

    def draw(axes: Axes) -> None:
        for k, (name, score) in enumerate(scores.items()):
            curves = [matched.precision_at_recalls(threshold_index) for matched in score.matched]
            if curves:
                axes.plot(RECALLS, np.mean(curves, axis=0), label=name, **style_of(k))
        axes.set(
            xlabel="recall",
            ylabel=f"precision at IoU {IOU_THRESHOLDS[threshold_index]:g}",
            xlim=(0, 1),
            ylim=(0, 1.02),
        )

    return _svg(draw)


def plot_recall_by_size(scores: Mapping[str, Scores]) -> str:
    """Recall at IoU 0.5 in the label map, by object size."""

    def draw(axes: Axes) -> None:
        for k, (name, score) in enumerate(scores.items()):
            bins = np.digitize(np.sqrt(score.objects[:, 0]), SIZE_BINS) - 1
            used = np.unique(bins)
            axes.plot(used, [score.objects[bins == b, 1].mean() for b in used], marker="o", label=name, **style_of(k))
        labels = [
            f"{low:g}-{high:g}" if np.isfinite(high) else f"{low:g}-" for low, high in zip(SIZE_BINS, SIZE_BINS[1:])
        ]
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
        axes.set(xlabel="sqrt(area), pixels", ylabel="recall at IoU 0.5", ylim=(0, 1.02))

    return _svg(draw)


def plot_f1_by_score(scores: Mapping[str, Scores]) -> str:
    """F1 at IoU 0.5 of the detections from a score on; the best and where it lies in the legend."""

    def draw(axes: Axes) -> None:
        for k, (name, score) in enumerate(scores.items()):
            if not score.matched:
                continue
            values = 100 * f1_by_score(score.matched, SCORE_THRESHOLDS)
            best = int(np.argmax(values))
            label = f"{name}: {values[best]:.1f} from {SCORE_THRESHOLDS[best]:.2f}"
            axes.plot(SCORE_THRESHOLDS, values, label=label, **style_of(k))
        axes.set(xlabel="score from", ylabel="F1 at IoU 0.5, %", xlim=(0, 1), ylim=(0, 100))

    return _svg(draw)


def plot_calibration(scores: Mapping[str, Scores]) -> str:
    """Fraction of true positives (IoU 0.5) among the detections of a score."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, alpha=0.5)
        for k, (name, score) in enumerate(scores.items()):
            if not score.matched:
                continue
            values, true = counted_detections(score.matched)
            bins = np.clip(np.digitize(values, CALIBRATION_BINS) - 1, 0, len(CALIBRATION_BINS) - 2)
            used = np.unique(bins)
            points = [values[bins == b].mean() for b in used], [true[bins == b].mean() for b in used]
            axes.plot(*points, marker="o", markersize=3, label=name, **style_of(k))
        axes.set(xlabel="score", ylabel="true at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))

    return _svg(draw)


def plot_training(runs: Sequence[Run], metric: str = "segm/AP") -> str | None:
    """The metric at each evaluation of the training, against minutes; None if no run was evaluated before its end."""
    known = [(k, run) for k, run in enumerate(runs) if run.curve and run.minutes]
    if all(len(run.curve) == 1 for _, run in known):
        return None

    def draw(axes: Axes) -> None:
        for k, run in known:
            points = [(minutes, values[metric]) for _, minutes, values in run.curve if metric in values]
            axes.plot(*zip(*points), marker="o", label=run.name, **style_of(k))
        axes.set(xlabel="minutes of training", ylabel=f"{metric}, %", ylim=(0, None), xlim=(0, None))

    return _svg(draw)


def plot_bars(values: Mapping[str, tuple[float, float, float]], label: str) -> str:
    """One bar per name, with its interval: name -> (value, low, high)."""

    def draw(axes: Axes) -> None:
        names = list(values)
        heights = np.array([values[name] for name in names])
        errors = np.abs(heights[:, 1:] - heights[:, :1]).T
        axes.barh(
            names, heights[:, 0], xerr=errors, color=[style_of(k)["color"] for k in range(len(names))], ecolor=_INK
        )
        axes.invert_yaxis()
        axes.set(xlabel=label, xlim=(0, None))

    return _svg(draw, legend=False)


def plot_ablation(results: Mapping[Strategy, Sequence[Mapping[str, float]]]) -> str:
    """Sampling strategies as bars of their mean over seeds with its spread, one plot per metric (Table II).

    Strategies differ by a small fraction of the metric, so bars start at the mean of the first one.

    Args:
        results: see :func:`..engine.ablation.read_ablation`.
    """
    titles = [strategy.title for strategy in results]
    colors = [STRATEGY_KIND_COLORS[strategy.kind] for strategy in results]

    def draw(*of_metric: Axes) -> None:
        for axes, metric in zip(of_metric, ABLATION_METRICS):
            means, spreads = np.array([mean_and_spread(runs, metric) for runs in results.values()]).T
            axes.barh(titles, means - means[0], left=means[0], xerr=spreads, color=colors, ecolor=_INK, capsize=2)
            axes.axvline(means[0], color=_INK, linewidth=0.8)
            for row, numbers in enumerate(zip(means, spreads)):
                beside = axes.get_yaxis_transform()
                axes.text(1.02, row, format_mean(*numbers), transform=beside, va="center", fontsize=8)
            axes.set(xlabel=f"{METRICS[metric]}, %", axisbelow=True)
            axes.locator_params(axis="x", nbins=4)
        of_metric[0].invert_yaxis()

    return _svg(draw, legend=False, columns=len(ABLATION_METRICS))


def write_svg(path: str | os.PathLike, svg: str) -> None:
    """Write a plot as a file of its own, where no page gives it colors: dark on white, on any background."""
    write_text(path, svg.replace("currentColor", "#222222").replace("<svg ", '<svg style="background: #ffffff" ', 1))


def _svg(draw: Callable[..., None], legend: bool = True, columns: int = 1) -> str:
    """Draw into the axes of a figure, side by side, and return its SVG element."""
    ink = {key: _INK for key in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")}
    # A fixed salt: the same plot is the same text.
    with matplotlib.rc_context({**ink, "svg.fonttype": "none", "svg.hashsalt": "plot", "font.size": 10}):
        figure = Figure(figsize=(2.7 + 2.5 * columns, 3.6), layout="constrained")
        figure.patch.set_alpha(0)
        all_axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
        for axes in all_axes:
            axes.patch.set_alpha(0)
            axes.grid(alpha=0.25, color=_INK, linewidth=0.5)
            axes.spines[["top", "right"]].set_visible(False)
        draw(*all_axes)
        if legend:
            # Below the axes, in room of its own: nine methods leave none between their curves.
            handles, labels = all_axes[0].get_legend_handles_labels()
            rows = -(-len(labels) // _LEGEND_COLUMNS)
            figure.set_figheight(figure.get_figheight() + _LEGEND_ROW_HEIGHT * rows)
            figure.legend(handles, labels, loc="outside lower center", ncols=_LEGEND_COLUMNS, fontsize=8, framealpha=0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return re.sub(_INK, "currentColor", text[text.index("<svg") :])
