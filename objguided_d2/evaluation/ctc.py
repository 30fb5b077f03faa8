"""Measures of the Cell Tracking Challenge on single frames: SEG, DET and their mean OP_CSB (Maska et al., 2023).

A prediction is paired with the true object of which it covers more than half; the formulas are those of py-ctcmetrics.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tifffile
from pycocotools.coco import COCO

from ..utils.atomic_write import atomic_write
from .base import LABEL_MAP, LabelMapEvaluator, register_evaluator
from .compared_image import ComparedImage
from .label_map import Overlaps

MAX_LABEL = np.iinfo(np.uint16).max


class FrameMatches(NamedTuple):
    """One frame in py-ctcmetrics' terms: labels present, labels of the pairs, IoU of the pairs; labels count from 1."""

    labels_ref: list[int]
    labels_comp: list[int]
    mapped_ref: list[int]
    mapped_comp: list[int]
    ious: list[float]


def match_frame(overlaps: Overlaps, ignored: np.ndarray) -> FrameMatches:
    """Pair each true object with the prediction that covers more than half of it, if there is one.

    Args:
        overlaps: of P predictions and G true objects.
        ignored: (P,) bool, predictions that are no false positives; a pair counts all the same.
    """
    predicted, true = np.nonzero(overlaps.intersection * 2 > overlaps.true_area)
    return FrameMatches(
        labels_ref=list(range(1, len(overlaps.true_area) + 1)),
        labels_comp=(np.union1d(np.flatnonzero(~ignored), predicted) + 1).tolist(),
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

    A false negative costs 10, a split of a prediction that is paired with several objects 5, a false positive 1. All
    frames must be annotated in full. In [0, 1]; 0 without objects.
    """
    from ctc_metrics.metrics import det as det_measure  # See seg().
    from ctc_metrics.utils.representations import count_acyclic_graph_correction_operations

    if not any(frame.labels_ref for frame in frames):
        return 0.0
    columns = [list(column) for column in zip(*frames)]
    operations = count_acyclic_graph_correction_operations(None, None, *columns[:4])
    return det_measure(**operations)


@register_evaluator("ctc")
class CellTrackingEvaluator(LabelMapEvaluator):
    """Writes ``<output_folder>/ctc/<sequence>_RES/maskTTT.tif`` for each frame and compares it with the truth.

    An image names its ``sequence`` and ``frame`` in the COCO file; without them, images are numbered in their order,
    as sequence 01. Frames with ``partially_annotated`` count for SEG alone: what is not annotated there is no error.
    """

    tasks = {"ctc": f"Cell Tracking Challenge on single frames, percent, {LABEL_MAP}"}
    metrics = {
        "SEG": "mean IoU over true objects, 0 for those of which no instance covers more than half",
        "DET": "1 - cost of corrections / cost of marking all objects anew, on frames annotated in full",
        "OP_CSB": "mean of SEG and DET",
    }

    def __init__(self, dataset_name: str, ground_truth: COCO, **kwargs) -> None:
        """See :class:`LabelMapEvaluator`; without ``output_folder`` no label maps are written."""
        super().__init__(dataset_name, ground_truth, **kwargs)
        self._number_of = {image_id: number for number, image_id in enumerate(ground_truth.imgs)}

    def measure(self, image: ComparedImage) -> tuple[bool, FrameMatches]:
        """Whether the frame is annotated in full, and its pairs."""
        if self._output_folder is not None:
            self._write(image)
        return not image.record.get("partially_annotated", False), match_frame(image.overlaps, image.ignored)

    def summarize(self, records: list[tuple[bool, FrameMatches]]) -> dict[str, float]:
        seg_value = seg([frame for _, frame in records])
        det_value = det([frame for complete, frame in records if complete])
        return {"SEG": 100 * seg_value, "DET": 100 * det_value, "OP_CSB": 50 * (seg_value + det_value)}

    def _write(self, image: ComparedImage) -> None:
        if len(image.predicted_classes) > MAX_LABEL:
            raise ValueError(
                f"Image '{image.record['file_name']}' has {len(image.predicted_classes)} instances, a 16-bit label map "
                f"holds {MAX_LABEL}; raise TEST.LABEL_MAP_SCORE_THRESH"
            )
        sequence = image.record.get("sequence", "01")
        frame = image.record.get("frame", self._number_of[image.record["id"]])
        path = os.path.join(self._output_folder, "ctc", f"{sequence}_RES", f"mask{frame:03d}.tif")
        with atomic_write(path) as temporary:
            tifffile.imwrite(temporary, image.label_map.astype(np.uint16), compression="zlib")
