"""Measures of the Cell Tracking Challenge on single frames: SEG, DET and their mean OP_CSB (Maska et al., 2023).

A predicted object stands for the true one of which it covers more than half; the formulas are those of py-ctcmetrics.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .label_map import Overlaps


class FrameMatches(NamedTuple):
    """One frame in py-ctcmetrics' terms: labels present, labels of the pairs, IoU of the pairs; labels count from 1."""

    labels_ref: list[int]
    labels_comp: list[int]
    mapped_ref: list[int]
    mapped_comp: list[int]
    ious: list[float]


def match_frame(overlaps: Overlaps, uncounted: np.ndarray) -> FrameMatches:
    """Pair each true object with the prediction that covers more than half of it, if there is one.

    Args:
        overlaps: of P predictions and G true objects.
        uncounted: (P,) bool, predictions that are absent unless they have a pair.
    """
    predicted, true = np.nonzero(overlaps.intersection * 2 > overlaps.true_area)
    return FrameMatches(
        labels_ref=list(range(1, len(overlaps.true_area) + 1)),
        labels_comp=(np.union1d(np.flatnonzero(~uncounted), predicted) + 1).tolist(),
        mapped_ref=(true + 1).tolist(),
        mapped_comp=(predicted + 1).tolist(),
        ious=overlaps.iou[predicted, true].tolist(),
    )


def seg(frames: Sequence[FrameMatches]) -> float:
    """SEG: mean IoU over all true objects, 0 for those without a pair. In [0, 1]; 0 without objects."""
    from ctc_metrics.metrics import seg as seg_measure  # Here because it takes a second to load.

    if not any(frame.labels_ref for frame in frames):
        return 0.0
    return seg_measure([frame.labels_ref for frame in frames], [frame.ious for frame in frames])


def det(frames: Sequence[FrameMatches]) -> float:
    """DET: 1 - cost of the corrections / cost of making everything by hand, at least 0.

    A missed object costs 10, a split of a prediction that stands for several 5, an invented one 1. All frames must be
    annotated in full. In [0, 1]; 0 without objects.
    """
    from ctc_metrics.metrics import det as det_measure  # See seg().
    from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations

    if not any(frame.labels_ref for frame in frames):
        return 0.0
    columns = [list(column) for column in zip(*frames)]
    operations = count_acyclic_graph_correction_operations(None, None, *columns[:4])
    return det_measure(**operations)
