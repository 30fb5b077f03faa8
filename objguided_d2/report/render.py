"""From what was measured to the files of a comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..engine.strategies import Strategy
from ..evaluation.ground_truth import count_objects
from ..utils.atomic_write import write_json, write_text
from ..utils.contact_sheet import contact_sheet
from .collect import Comparison
from .figures import ablation_figure, panel_figures, plot_figures
from .page import Figure, Page, as_mapping, markdown_tables, write_page
from .panels import choose_images
from .plots import write_svg
from .sampling_points import sampling_figure
from .tables import comparison_tables, uncertainties
from .viewer_data import viewer_image


def render_comparison(
    comparison: Comparison, output: Path, ablation: Mapping[Strategy, Sequence[Mapping[str, float]]] | None = None
) -> Path:
    """Write the page with its tables and figures, and these as files beside it.

    Args:
        ablation: see :func:`..engine.ablation.read_ablation`.

    Returns:
        The page.
    """
    num_objects = count_objects(comparison.ground_truth)
    intervals = uncertainties(list(comparison.scores.values()), comparison.options.resamples)
    tables = comparison_tables(comparison, intervals)
    figures = [
        *plot_figures(comparison, intervals),
        *([ablation_figure(ablation)] if ablation else []),
        *panel_figures(_examples(comparison, num_objects), comparison.image_root),
    ]
    if (sampling := sampling_figure(comparison.runs, comparison.dataset_name)) is not None:
        figures.append(sampling)
    image_ids = list(comparison.ground_truth.imgs)
    page = Page(
        title=f"{comparison.dataset_name}: {', '.join(comparison.scores)}",
        introduction=" ".join(
            [
                f"{len(comparison.runs)} methods on the {len(image_ids)} images of {comparison.dataset_name}, "
                f"{sum(num_objects.values())} objects.",
                *comparison.gaps,
            ]
        ),
        runs=list(comparison.scores),
        score_thresholds=list(comparison.score_thresholds.values()),
        tables=tables,
        figures=figures,
        images=[
            viewer_image(
                list(comparison.compared_images(image_id, 0.0).values()),
                comparison.image_root,
                comparison.options.max_side,
            )
            for image_id in tqdm(image_ids, desc="viewer", unit="image", disable=None)
        ],
    )
    for figure in figures:
        _write_figure(figure, output)
    write_text(output / "tables.md", markdown_tables(tables))
    write_json(
        str(output / "metrics.json"),
        {
            "dataset": comparison.dataset_name,
            "options": asdict(comparison.options),
            "score_thresholds": comparison.score_thresholds,
            "tables": as_mapping(tables),
            "metrics": {name: _finite(score.metrics) for name, score in comparison.scores.items()},
        },
        indent=2,
    )
    write_page(page, output / "index.html")
    return output / "index.html"


def _examples(comparison: Comparison, num_objects: Mapping[int, int]) -> dict[str, dict]:
    """Why an image was chosen -> name of each run -> its predictions there."""
    chosen = choose_images(
        np.array([list(score.image_accuracy.values()) for score in comparison.scores.values()]),
        np.array(list(num_objects.values())),
    )
    image_ids = list(comparison.ground_truth.imgs)
    return {reason: comparison.compared_images(image_ids[index]) for reason, index in chosen.items()}


def _write_figure(figure: Figure, output: Path) -> None:
    stem = figure.title.lower().replace(" ", "-").replace(",", "")
    if isinstance(figure.content, str):
        write_svg(output / f"{stem}.svg", figure.content)
    else:
        contact_sheet([(figure.content, "")], 1, output / f"{stem}.png")


def _finite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if np.isfinite(value) else None for name, value in metrics.items()}
