"""Evaluation results on disk: one JSON object per data set and model."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

from .definitions import definition_of


def write_metrics(
    path: str, results: Mapping[str, Mapping[str, float]], *, dataset: str, num_images: int, detections_per_image: int
) -> None:
    """Write the results of one evaluation with what is needed to read them.

    Args:
        path: the file; folders are created. Not the ``metrics.json`` of training, which holds one object per line.
        results: task -> metric -> value, as evaluators return it. Keys become ``task/metric``; a value that is
            undefined (nan) becomes null.
        dataset: its registered name.
        num_images: how many images were evaluated.
        detections_per_image: the limit that the metrics were computed at.
    """
    values = {(task, metric): float(value) for task, metrics in results.items() for metric, value in metrics.items()}
    write_json(
        path,
        {
            "dataset": dataset,
            "num_images": num_images,
            "detections_per_image": detections_per_image,
            "results": {"/".join(key): value if math.isfinite(value) else None for key, value in values.items()},
            "definitions": {"/".join(key): definition_of(*key) for key in values},
        },
        indent=2,
    )


def write_json(path: str, content: Any, indent: int | None = None) -> None:
    """Write strict JSON so that ``path`` holds either its old content or all of the new.

    Raises:
        ValueError, TypeError: if JSON cannot hold the content; ``path`` is left as it was.
    """
    write_text(path, json.dumps(content, indent=indent, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text so that ``path`` holds either its old content or all of the new; folders are created."""
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # Processes that share the work may write the same file at the same time.
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
