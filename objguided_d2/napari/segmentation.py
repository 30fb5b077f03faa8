"""Segment planes one after another, in a thread that can be asked to stop."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas


class Stopped(Exception):
    """The user stopped a segmentation."""


class Segmented(NamedTuple):
    """Label images of planes, (H, W) each, numbered on from plane to plane, and a row of measurements an object."""

    labels: list[np.ndarray]
    table: pandas.DataFrame


def segment_planes(
    predictor: Any,
    planes: Iterator[np.ndarray],
    positions: Sequence[tuple[int, ...]],
    stop: threading.Event,
    options: dict[str, Any],
) -> Iterator[float | Segmented]:
    """Segment planes, giving fractions of the work between 0 and 1, and at last the result.

    Args:
        predictor: :class:`~objguided_d2.inference.predictor.Predictor`.
        planes: (H, W) or (H, W, 3) each.
        positions: of the planes along the axes of the stack; they become columns of the table.
        stop: looked at after each plane and each tile of it.
        options: of the predictor's call.

    Raises:
        Stopped: if ``stop`` is set.
        ValueError: of the predictor, for images that it cannot take.
    """

    def check_stop(*_: int) -> None:
        if stop.is_set():
            raise Stopped

    labels, tables, num_objects = [], [], 0
    for position, pixels in zip(positions, planes):
        check_stop()
        prediction = predictor(pixels, on_tile=check_stop, **options)
        painted = prediction.labels.astype(np.int32)
        labels.append(np.where(painted > 0, painted + num_objects, 0))
        table = prediction.table()
        table["label"] += num_objects
        for axis, place in enumerate(position):
            table.insert(axis + 1, f"axis_{axis}", place)
        tables.append(table)
        num_objects += len(table)
        yield len(labels) / len(positions)
    check_stop()
    yield Segmented(labels, pandas.concat(tables, ignore_index=True))
