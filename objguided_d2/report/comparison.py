"""A handful of runs on one data set -> tables, figures and a page to look at."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from tqdm import tqdm

from ..data.builtin import register_prepared
from ..engine.ablation import read_ablation
from ..engine.trainer import Trainer
from ..evaluation.compared_image import ComparedImage
from ..evaluation.ground_truth import count_objects, load_ground_truth
from ..utils.atomic_write import write_json, write_text
from ..utils.contact_sheet import contact_sheet
from .page import Figure, Page, as_mapping, markdown_tables, write_page
from .panels import PANEL_SIDE, choose_images, legend_in_words, panel_row
from .plots import (
    plot_ablation,
    plot_ap_by_threshold,
    plot_bars,
    plot_calibration,
    plot_f1_by_score,
    plot_precision_recall,
    plot_recall_by_size,
    plot_training,
    write_svg,
)
from .runs import Run, RunError, config_of, load_runs, results_file, weights_of
from .sampling_points import sampling_figure
from .scores import Scores, score_run
from .speed import Speed, measure_speeds
from .tables import METRICS, Uncertainty, metric_rows, uncertainties, uncertainty_rows
from .viewer_data import viewer_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to compare.

    Attributes:
        limit: detections of an image that count for AP (TEST.DETECTIONS_PER_IMAGE).
        score_threshold: of label maps, panels and the viewer's start (TEST.LABEL_MAP_SCORE_THRESH).
        boundary_distance: pixels (TEST.BOUNDARY_DISTANCE).
        resamples: of the bootstrap.
        max_side: larger images are shrunk to it in the viewer.
        with_speed: measure speed and memory here.
    """

    limit: int = 500
    score_threshold: float = 0.3
    boundary_distance: int = 2
    resamples: int = 1000
    max_side: int = 640
    with_speed: bool = True


def compare(
    dataset_name: str, paths: Sequence[Path], output: Path, options: Options, ablation: Path | None = None
) -> Path:
    """Write ``index.html``, ``tables.md``, ``metrics.json`` and the figures into ``output``.

    Args:
        dataset_name: a registered or prepared data set.
        paths: runs, see :func:`.runs.load_run`; the first is what the others are compared with. An OUTPUT_DIR with
            weights and without predictions on the data set is evaluated first.
        ablation: results of :func:`..engine.ablation.run_ablation` to show as well.

    Returns:
        The page.
    Raises:
        RunError: for a run that cannot be compared, or an unknown data set.
        AblationError: if ``ablation`` is not such results.
    """
    ablation_figures = [_ablation_figure(ablation)] if ablation else []
    register_prepared(dataset_name)
    if dataset_name not in DatasetCatalog:
        raise RunError(
            f"data set {dataset_name} is neither registered nor prepared: see datasets/README.md, or register it with "
            "register_objguided_instances (tools/compare.py: --annotations and --images)"
        )
    DatasetCatalog.get(dataset_name)
    ground_truth = load_ground_truth(dataset_name, str(output))
    for path in paths:
        _evaluate_if_missing(path, dataset_name)
    runs = load_runs(paths, dataset_name, ground_truth)
    scores = {
        run.name: score_run(
            run,
            dataset_name,
            ground_truth,
            limit=options.limit,
            score_threshold=options.score_threshold,
            boundary_distance=options.boundary_distance,
        )
        for run in tqdm(runs, desc="score", unit="run", disable=None)
    }
    speeds = measure_speeds(runs, dataset_name) if options.with_speed else {}

    certainty = uncertainties(list(scores.values()), options.resamples)
    num_objects = count_objects(ground_truth)
    metadata = MetadataCatalog.get(dataset_name)
    image_root = Path(metadata.image_root)

    def compared(image_id: int, score_threshold: float) -> dict[str, ComparedImage]:
        counted = {"limit": options.limit, "score_threshold": score_threshold}
        return {run.name: run.compared_image(image_id, ground_truth, metadata, **counted) for run in runs}

    tables = _tables(runs, scores, certainty, speeds, options)
    figures = _plots(runs, scores, certainty) + ablation_figures
    chosen = choose_images(
        np.array([list(score.image_accuracy.values()) for score in scores.values()]),
        np.array(list(num_objects.values())),
    )
    image_ids = list(ground_truth.imgs)
    examples = {reason: compared(image_ids[index], options.score_threshold) for reason, index in chosen.items()}
    figures += _panels(examples, image_root)
    if (sampling := sampling_figure(runs, dataset_name)) is not None:
        figures.append(sampling)
    page = Page(
        title=f"{dataset_name}: {', '.join(scores)}",
        introduction=f"{len(runs)} methods on the {len(ground_truth.imgs)} images of {dataset_name}, "
        f"{sum(num_objects.values())} objects.",
        runs=list(scores),
        score_threshold=options.score_threshold,
        tables=tables,
        figures=figures,
        images=[
            viewer_image(list(compared(image_id, 0.0).values()), image_root, options.max_side)
            for image_id in tqdm(image_ids, desc="viewer", unit="image", disable=None)
        ],
    )
    for figure in figures:
        stem = figure.title.lower().replace(" ", "-").replace(",", "")
        if isinstance(figure.content, str):
            write_svg(output / f"{stem}.svg", figure.content)
        else:
            contact_sheet([(figure.content, "")], 1, output / f"{stem}.png")
    write_text(output / "tables.md", markdown_tables(tables))
    write_json(
        str(output / "metrics.json"),
        {
            "dataset": dataset_name,
            "options": asdict(options),
            "tables": as_mapping(tables),
            "metrics": {name: _finite(score.metrics) for name, score in scores.items()},
        },
        indent=2,
    )
    write_page(page, output / "index.html")
    return output / "index.html"


def _evaluate_if_missing(path: Path, dataset_name: str) -> None:
    if not (path / "config.yaml").exists() or results_file(path, dataset_name).exists():
        return
    weights = weights_of(path)
    if weights is None:
        raise RunError(
            f"run {path} has neither predictions on {dataset_name} nor weights (model_final.pth or model_best.pth); "
            "train it first"
        )
    logger.info("Evaluating %s on %s", path, dataset_name)
    cfg = config_of(path)
    cfg.DATASETS.TEST = (dataset_name,)
    cfg.OUTPUT_DIR = str(path)
    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model).load(str(weights))
    Trainer.test(cfg, model)


def _tables(
    runs: Sequence[Run],
    scores: dict[str, Scores],
    certainty: Sequence[Uncertainty],
    speeds: dict[str, Speed],
    options: Options,
) -> list[tuple[str, str, list[str], list[list[str]]]]:
    return [
        (
            "Quality",
            f"Percent. COCO AP of masks, VOC2010 AP of masks and boxes at up to {options.limit} detections an image; "
            f"the last three on label maps of scores from {options.score_threshold:g} on, boundary IoU within "
            f"{options.boundary_distance} pixels.",
            ["method", *METRICS.values()],
            metric_rows(scores),
        ),
        (
            "How sure",
            f"COCO AP of masks with its 95 % bootstrap interval over images ({options.resamples} resamples, the same "
            "for all methods), the difference to the first method with its interval, and its two-sided p-value, which "
            f"the resamples resolve to {1 / options.resamples:.3g}. This is about other images: what another seed of "
            "the same training would give is not in it.",
            ["method", "AP", "difference", "p"],
            uncertainty_rows(list(scores), certainty, list(scores.values())),
        ),
        (
            "Cost",
            "Training as far as the run folder tells. Speed and memory measured here: one image at a time, the models "
            "taking turns, median and quartiles; the image of median object count among those with objects.",
            [
                "method",
                "training minutes",
                "images seen",
                "parameters, M",
                "GFLOPs",
                "images a second",
                "peak memory, MB",
            ],
            [_cost_row(run, speeds.get(run.name)) for run in runs],
        ),
    ]


def _cost_row(run: Run, speed: Speed | None) -> list[str]:
    training = [f"{run.minutes:.0f}" if run.minutes else "-", str(run.images_seen) if run.images_seen else "-"]
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


def _plots(runs: Sequence[Run], scores: dict[str, Scores], certainty: Sequence[Uncertainty]) -> list[Figure]:
    bars = {
        name: (100 * score.average_precision, one.low, one.high)
        for (name, score), one in zip(scores.items(), certainty)
    }
    figures = [
        Figure("AP by IoU threshold", "VOC2010 AP of masks at each threshold.", plot_ap_by_threshold(scores)),
        Figure("AP with its interval", "COCO AP of masks, 95 % bootstrap interval.", plot_bars(bars, "AP, %")),
        Figure("Precision and recall", "At IoU 0.5, precision made monotone.", plot_precision_recall(scores)),
        Figure("Recall by size", "Objects found at IoU 0.5 in the label map.", plot_recall_by_size(scores)),
        Figure(
            "F1 by score threshold",
            "F1 at IoU 0.5 of the detections from a score on. The legend has each method's best and the score for it: "
            "what a threshold of its own, chosen on these images, would give.",
            plot_f1_by_score(scores),
        ),
        Figure("Calibration", "How often detections of a score are true at IoU 0.5.", plot_calibration(scores)),
    ]
    if (training := plot_training(runs)) is not None:
        figures.append(Figure("Training", "Evaluations while training.", training))
    return figures


def _ablation_figure(path: Path) -> Figure:
    results = read_ablation(path)
    fewest, most = (limit(map(len, results.values())) for limit in (min, max))
    return Figure(
        "Ablation",
        "Final metrics of each sampling strategy (k, beta) of the refinement: mean and standard deviation over seeds "
        f"({most if fewest == most else f'{fewest} to {most}'} of each). Bars start at the mean of the first one.",
        plot_ablation(results),
        wide=True,
    )


def _panels(examples: Mapping[str, Mapping[str, ComparedImage]], image_root: Path) -> list[Figure]:
    """Of each image, why it was chosen -> name of each run -> its predictions there."""
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


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: float(value) if np.isfinite(value) else None for name, value in metrics.items()}
