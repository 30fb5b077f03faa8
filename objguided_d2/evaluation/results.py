"""Evaluation results as a table and as a JSON file, each number with its definition."""

import math
from collections.abc import Mapping

from tabulate import tabulate

from ..utils.atomic_write import write_json
from .base import EVALUATORS, InstanceEvaluator


def definition_of(task: str, metric: str) -> str:
    """The meaning of one number, in full.

    Returns:
        Its definition; empty for a task of no registered evaluator.

    Raises:
        ValueError: if the evaluator of the task has no such metric.
    """
    evaluator = _evaluator_of(task)
    return f"{evaluator.tasks[task]}; {_definition(evaluator, metric)}" if evaluator else ""


def format_results(results: Mapping[str, Mapping[str, float]]) -> str:
    """A table per task: what it measures, then name, value and definition of each metric.

    Args:
        results: task -> metric -> value, as evaluators return it. A value that is undefined (nan) shows as "-".
    """
    return "\n\n".join(_format_task(task, metrics) for task, metrics in results.items())


def write_metrics(
    path: str,
    results: Mapping[str, Mapping[str, float]],
    *,
    dataset: str,
    images_digest: str,
    num_images: int,
    detections_per_image: int,
) -> None:
    """Write the results of one evaluation with what is needed to read them.

    Args:
        path: the file; folders are created. Not the ``metrics.json`` of training, which holds one object per line.
        results: task -> metric -> value, as evaluators return it. Keys become ``task/metric``; a value that is
            undefined (nan) becomes null.
        dataset: its registered name.
        images_digest: of it, see :func:`.ground_truth.images_digest`.
        num_images: how many images were evaluated.
        detections_per_image: the limit that the metrics were computed at.
    """
    values = {(task, metric): float(value) for task, metrics in results.items() for metric, value in metrics.items()}
    write_json(
        path,
        {
            "dataset": dataset,
            "images_digest": images_digest,
            "num_images": num_images,
            "detections_per_image": detections_per_image,
            "results": {"/".join(key): value if math.isfinite(value) else None for key, value in values.items()},
            "definitions": {"/".join(key): definition_of(*key) for key in values},
        },
        indent=2,
    )


def _evaluator_of(task: str) -> type[InstanceEvaluator] | None:
    return next((evaluator for evaluator in EVALUATORS.values() if task in evaluator.tasks), None)


def _definition(evaluator: type[InstanceEvaluator], metric: str) -> str:
    definition = evaluator.definition(metric)
    if definition is None:
        raise ValueError(f"{evaluator.__name__} has no definition for metric '{metric}'")
    return definition


def _format_task(task: str, metrics: Mapping[str, float]) -> str:
    evaluator = _evaluator_of(task)
    rows = [
        (
            f"{task}/{name}",
            f"{value:.2f}" if math.isfinite(value) else "-",
            _definition(evaluator, name) if evaluator else "",
        )
        for name, value in metrics.items()
    ]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right", "left"))
    return f"{task}: {evaluator.tasks[task] if evaluator else ''}\n{table}"
