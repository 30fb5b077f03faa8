"""Every number of one run, from its predictions alone, so that all methods are measured by the same code.

T IoU thresholds 0.50:0.05:0.95.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

from ..evaluation.boundary import BoundaryEvaluator
from ..evaluation.coco import evaluate_coco, match_coco
from ..evaluation.fragments import FragmentsEvaluator
from ..evaluation.matched_detections import MatchedDetections
from ..evaluation.matching import MatchCounts, MatchingEvaluator
from ..evaluation.score_threshold import best_score_threshold
from ..evaluation.voc2010 import IOU_THRESHOLDS, VOC2010Evaluator
from ..utils.rle import EncodedMasks
from .options import BEST
from .runs import Run, classes_of

_COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


@dataclass
class Scores:
    """The numbers of one run.

    Attributes:
        metrics: "task/metric" -> percent or count, as the evaluators name them; nan where undefined.
        matched: of each class with objects, for resampling, precision-recall curves and calibration.
        image_accuracy: image id -> TP / (TP + FP + FN), mean over T, in [0, 1].
        objects: (G, 4) area, matched at IoU 0.5, boundary IoU, boundary F of every true object.
        score_threshold: from which predictions are in the label maps.
    """

    metrics: dict[str, float]
    matched: list[MatchedDetections]
    image_accuracy: dict[int, float]
    objects: np.ndarray
    score_threshold: float

    @property
    def average_precision(self) -> float:
        """COCO AP of masks in [0, 1], mean over classes."""
        return float(np.mean([matched.average_precision for matched in self.matched])) if self.matched else 0.0

    def resampled(self, weights: np.ndarray) -> np.ndarray:
        """(B,) COCO AP of masks, see :meth:`MatchedDetections.resampled`."""
        if not self.matched:
            return np.zeros(len(weights))
        return np.nanmean([matched.resampled(weights) for matched in self.matched], axis=0)


def score_run(
    run: Run,
    dataset_name: str,
    ground_truth: COCO,
    *,
    limit: int,
    score_threshold: float | Literal["best"] | None,
    boundary_distance: int,
) -> Scores:
    """Measure the predictions of a run.

    Args:
        limit: best-scored detections of an image that count for AP (TEST.DETECTIONS_PER_IMAGE); of label images all do.
        score_threshold: of what goes into label maps; see :class:`.options.Options`.
        boundary_distance: pixels (TEST.BOUNDARY_DISTANCE).
    """
    limit = run.num_counted(limit)
    metrics, matched = _coco(run, ground_truth, limit)
    if score_threshold is None:
        score_threshold = run.score_threshold
    elif score_threshold == BEST:
        score_threshold = best_score_threshold(matched, run.score_threshold)
    options = {"score_threshold": score_threshold, "distributed": False}
    matching = MatchingEvaluator(dataset_name, ground_truth, **options)
    boundary = BoundaryEvaluator(dataset_name, ground_truth, distance=boundary_distance, **options)
    fragments = FragmentsEvaluator(dataset_name, ground_truth, **options)
    evaluators = [VOC2010Evaluator(dataset_name, ground_truth, distributed=False), matching, boundary, fragments]
    metadata = MetadataCatalog.get(dataset_name)
    for evaluator in evaluators:
        evaluator.reset()
    for image_id, image in ground_truth.imgs.items():
        instances = _instances(run.results[image_id][:limit], (image["height"], image["width"]), metadata)
        for evaluator in evaluators:
            evaluator.process([{"image_id": image_id}], [{"instances": instances}])
    for evaluator in evaluators:
        for task, values in evaluator.evaluate().items():
            metrics.update({f"{task}/{name}": value for name, value in values.items()})
    nothing = MatchCounts.zero(len(IOU_THRESHOLDS))
    accuracy = {
        image_id: float(sum(record.values(), nothing).accuracy.mean())
        for image_id, record in matching.records().items()
    }
    objects = np.concatenate([np.zeros((0, 4)), *boundary.records().values()])
    return Scores(metrics, matched, accuracy, objects, score_threshold)


def _coco(run: Run, ground_truth: COCO, limit: int) -> tuple[dict[str, float], list[MatchedDetections]]:
    results = list(itertools.chain.from_iterable(run.results.values()))
    stats = evaluate_coco(ground_truth, results, "segm", limit=limit).stats
    values = [100 * value if value >= 0 else np.nan for value in stats[:6]]
    metrics = {f"segm/{name}": float(value) for name, value in zip(_COCO_NAMES, values)}
    return metrics, MatchedDetections.by_class(match_coco(ground_truth, results, "segm", limit=limit))


def _instances(results: list[dict], size: tuple[int, int], metadata: Metadata) -> Instances:
    boxes = torch.tensor([result["bbox"] for result in results], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Instances(
        size,
        pred_boxes=Boxes(boxes),
        pred_masks=EncodedMasks([result["segmentation"] for result in results]),
        scores=torch.tensor([result["score"] for result in results], dtype=torch.float64),
        pred_classes=torch.from_numpy(classes_of(results, metadata)),
    )
